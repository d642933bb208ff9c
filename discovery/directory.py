"""Opens the directory that a URL names.

Internal. The package `discovery` hands on its functions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from discovery.backend import Capabilities, Directory, Kind, Options, everything, factory_for
from discovery.exceptions import DirectoryConfigurationError
from discovery.interest import ALL_SERVICES, of_services
from discovery.model import DEFAULT_NAMESPACE, DEFAULT_TTL, is_name, is_ttl, shown_url
from discovery.security.keys import Keys

#: This machine's own directory; the first process to open it hosts it.
LOCAL_URL = "local:"
#: Where another URL begins in a list of several URLs. Commas also separate the servers of one engine.
_NEXT_URL = re.compile(r",\s*(?=(?:[a-z][a-z0-9+.-]*://|local:|static:))")


def open_directory(
    url: str | None = None,
    *,
    namespace: str | None = DEFAULT_NAMESPACE,
    cache_dir: str | os.PathLike[str] | None = None,
    ttl: float = DEFAULT_TTL,
    host: bool = True,
    services: Iterable[str] = ALL_SERVICES,
    keys: Keys | None = None,
) -> Directory:
    """The directory at `url`, not yet started.

    `local:` (or None) is the machine's own, `local:PORT` one at another port;
    `tcp://host:port[,tcp://host:port...]` are one or several registries that know nothing of each other;
    `etcd://host:port[,host:port...]/prefix` is kept by etcd, `zookeeper://...` by ZooKeeper, and `consul://...` by Consul;
    `dns://name:port` and `dns+srv://_service._proto.name` ask the nodes that DNS names, whose public keys follow as `#KEY,...`
    where `keys` are given; `static:name=tcp://ip:port,...;name=...` or `static:FILE`
    needs no server at all. URLs of several kinds but static:, separated by commas, are merged.

    `namespace`: the namespace that it shows and that it may announce in; None is all of them. `cache_dir`: a folder
    for the last good view, which is used when a process starts while every registry is down; None caches nothing. `ttl`: seconds
    of warm-up if this process hosts the local registry; a third of it is the longest pause between attempts to connect.
    `host`: False uses the local directory and never hosts it. `services`: the names of the services that are wanted, to which
    `Directory.add_interest` adds. The default, `*`, is all of them; its cost grows with the whole cluster. `keys`: connections
    to registries are encrypted, only records and notes that a node has signed are shown, and nothing is hosted; see
    docs/security.rst.

    DirectoryConfigurationError for a URL or a setting that makes no sense.

        directory = open_directory("tcp://10.0.0.5:4190")
        directory.start()
        directory.announce(Record(service="maths", instance=uuid4().hex, endpoints={"rpc": "tcp://10.0.0.7:4321"}))
        directory.wait_ready(2.0)
        directory.service("words")
    """
    if namespace is not None and not is_name(namespace):
        raise DirectoryConfigurationError(
            f"the namespace is {namespace!r}; a text of 1 to 255 characters is needed"
        )
    if not is_ttl(ttl):
        raise DirectoryConfigurationError(f"the ttl is {ttl!r}; seconds from 0.1 to 3600 are needed")
    url = LOCAL_URL if url in (None, "", "local") else url
    if not isinstance(url, str):
        raise DirectoryConfigurationError(
            f"the directory URL is {url!r}; a text such as tcp://10.0.0.5:4190 is needed"
        )
    if keys is not None and not keys.registry_keys and any(part.startswith(("local:", "tcp:")) for part in _parts(url)):
        raise DirectoryConfigurationError(keys.why_no_registry())
    cache = None if cache_dir is None or cache_dir == "" else Path(cache_dir)
    wanted = of_services(services)
    gate = None
    believes = everything
    if keys is not None:
        from discovery.client.verified import Gate

        gate = Gate(keys)
        believes = gate.believes
    options = Options(namespace, cache, float(ttl), host, wanted, keys, believes)
    made = [factory_for(part)(part, options) for part in _parts(url)]
    if len(made) == 1 and not isinstance(made[0], Kind):
        if keys is not None and not getattr(getattr(made[0], "capabilities", None), "takes_keys", False):
            raise DirectoryConfigurationError(
                f"the directory URL is {shown_url(url)!r}, whose kind does not check signatures, so it cannot be used "
                "with SECURITY; tcp://, an engine such as etcd://, dns:// or static: is needed"
            )
        return made[0]
    kind = _merged([one for one in made if isinstance(one, Kind)], url if len(made) > 1 else None, len(made))
    # Imported here, so that importing the package does not load ZeroMQ: a program may patch its sockets in between.
    from discovery.client.registry_client import RegistryClient

    return RegistryClient(
        kind.name, list(kind.seeds), namespace, cache, kind.longest_pause, kind.keeps_records, kind.capabilities, wanted,
        kind.locks, gate,
    )  # fmt: skip


def _parts(url: str) -> list[str]:
    """Splits a list into URLs. Adjacent tcp: URLs stay together, and `static:` takes everything after it."""
    parts: list[str] = []
    for part in [url] if url.startswith("static:") else _NEXT_URL.split(url):
        if parts and part.startswith("tcp:") and parts[-1].startswith("tcp:"):
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _merged(kinds: list[Kind], url: str | None, count: int) -> Kind:
    if len(kinds) < count:
        raise DirectoryConfigurationError(
            f"the directory URL is {shown_url(url or '')!r}, and one of its parts cannot stand beside others; "
            "static: and the like stand alone, so a list of local:, tcp:, etcd:, zookeeper:, consul: and dns: is needed"
        )
    can = [kind.capabilities for kind in kinds]
    return Kind(
        ",".join(kind.name for kind in kinds),
        tuple(seed for kind in kinds for seed in kind.seeds),
        Capabilities(
            can_announce=any(one.can_announce for one in can),
            is_hosted_by_clients=all(one.is_hosted_by_clients for one in can),
            # Two engines would hold two locks of one name, so a cluster that moves between them has no locks meanwhile.
            locks=count == 1 and can[0].locks,
            stores_notes=any(one.stores_notes for one in can),
            needs_fixed_port=all(one.needs_fixed_port for one in can),
            servers=tuple(server for one in can for server in one.servers),
            takes_keys=True,
            carries_revocations=any(one.carries_revocations for one in can),
        ),
        min(kind.longest_pause for kind in kinds),
        all(kind.keeps_records for kind in kinds),
        kinds[0].locks if count == 1 else None,
    )


def default_cache_dir() -> str:
    """The usual cache folder of this user: $XDG_CACHE_HOME/zmqservices, or ~/.cache/zmqservices."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "zmqservices")
