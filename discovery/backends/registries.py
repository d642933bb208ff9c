"""Directories kept by registries of this package: the machine's own, and those at tcp addresses."""

from __future__ import annotations

from discovery.backend import Capabilities, Kind, Options
from discovery.client.seeds import Seed, is_port, local_seed, split_tcp, tcp_seed
from discovery.exceptions import DirectoryConfigurationError

#: The most registries of one client. More would not make the directory any safer.
MAX_REGISTRIES = 16


def open_local(url: str, options: Options) -> Kind:
    """`local:` or `local:PORT`: the first process on the machine hosts it.

    Its records end with the machine, so only notes are cached.
    """
    port = url.removeprefix("local:")
    if port and not (is_port(port) and int(port)):
        raise DirectoryConfigurationError(
            f"the directory URL is {url!r}; local: or local:PORT is needed, with a port from 1 to 65535"
        )
    seed = local_seed(int(port) if port else None, options.ttl, options.host, options.keys)
    # Loopback answers or refuses at once. So frequent attempts cost little, and a new host is found soon.
    pause = min(0.5, options.ttl / 3)
    name = f"local ({seed.address})"
    capabilities = Capabilities(
        is_hosted_by_clients=options.keys is None, servers=(split_tcp(seed.address),), carries_revocations=True
    )
    return Kind(name, (seed,), capabilities, pause, keeps_records=False)


def open_tcp(url: str, options: Options) -> Kind:
    """`tcp://host:port[,tcp://host:port...]`: one registry, or several that know nothing of each other."""
    seeds: dict[str, Seed] = {}
    for part in url.split(","):
        seed = tcp_seed(part, options.keys)
        seeds.setdefault(seed.url, seed)
    if len(seeds) > MAX_REGISTRIES:
        raise DirectoryConfigurationError(
            f"the directory URL names {len(seeds)} registries; {MAX_REGISTRIES} is the most"
        )
    capabilities = Capabilities(servers=tuple(split_tcp(one) for one in seeds), carries_revocations=True)
    return Kind(",".join(seeds), tuple(seeds.values()), capabilities, options.ttl / 3)
