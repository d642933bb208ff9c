"""Directories kept by registries of this package: the machine's own, and those at tcp addresses."""

from __future__ import annotations

from pathlib import Path

from discovery.client.registry_client import RegistryClient
from discovery.client.seeds import Seed, local_seed, tcp_seed
from discovery.exceptions import DirectoryConfigurationError

#: Registries that one client talks to; more would make nothing safer.
MAX_REGISTRIES = 16


def open_local(
    url: str, *, namespace: str | None, cache_dir: Path | None, ttl: float, local_port: int | None, host: bool
) -> RegistryClient:
    """`local:`: the first process on the machine hosts it. What it lists dies with the machine: notes alone are cached."""
    if url != "local:":
        raise DirectoryConfigurationError(
            f"the directory URL is {url!r}; local: alone is needed, "
            "with another port in ZMQSERVICES_LOCAL_PORT"
        )
    seed = local_seed(local_port, ttl, host)
    # Loopback answers or refuses at once, so asking often costs nothing and a new host is found soon.
    return RegistryClient(f"local ({seed.address})", [seed], namespace, cache_dir, min(0.5, ttl / 3), keeps_records=False)


def open_tcp(
    url: str, *, namespace: str | None, cache_dir: Path | None, ttl: float, local_port: int | None, host: bool
) -> RegistryClient:
    """`tcp://host:port[,tcp://host:port...]`: one registry, or several that know nothing of each other."""
    seeds: dict[str, Seed] = {}
    for part in url.split(","):
        seed = tcp_seed(part)
        seeds.setdefault(seed.url, seed)
    if len(seeds) > MAX_REGISTRIES:
        raise DirectoryConfigurationError(
            f"the directory URL names {len(seeds)} registries; {MAX_REGISTRIES} is the most"
        )
    return RegistryClient(",".join(seeds), list(seeds.values()), namespace, cache_dir, ttl / 3)
