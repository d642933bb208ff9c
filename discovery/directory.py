"""Opens the directory that a URL names.

Internal. The package `discovery` hands on its functions.
"""

from __future__ import annotations

import os
from pathlib import Path

from discovery.backend import Directory, Kind, Options, factory_for
from discovery.client.registry_client import RegistryClient
from discovery.exceptions import DirectoryConfigurationError
from discovery.model import DEFAULT_NAMESPACE, DEFAULT_TTL, is_name, is_ttl

#: This machine's own directory; the first process to open it hosts it.
LOCAL_URL = "local:"


def open_directory(
    url: str | None = None,
    *,
    namespace: str | None = DEFAULT_NAMESPACE,
    cache_dir: str | os.PathLike[str] | None = None,
    ttl: float = DEFAULT_TTL,
    host: bool = True,
) -> Directory:
    """The directory at `url`, not yet started.

    `local:` (or None) is the machine's own, `local:PORT` one at another port;
    `tcp://host:port[,tcp://host:port...]` are one or several registries that know nothing of each other;
    `static:name=tcp://ip:port,...;name=...` or `static:FILE` needs none at all.

    `namespace`: the namespace that it shows and that it may announce in; None is all of them. `cache_dir`: a folder
    for the last good view, used when a process starts while every registry is down; None caches nothing. `ttl`: seconds
    of warm-up where this process hosts the local registry; a third of it is the longest pause between attempts to connect.
    `host`: False uses the local directory and never hosts it.

    Raises DirectoryConfigurationError for a URL or a setting that makes no sense.

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
    cache = None if cache_dir is None or cache_dir == "" else Path(cache_dir)
    made = factory_for(url)(url, Options(namespace, cache, float(ttl), host))
    if not isinstance(made, Kind):
        return made
    return RegistryClient(
        made.name, list(made.seeds), namespace, cache, made.longest_pause, made.keeps_records, made.capabilities
    )


def default_cache_dir() -> str:
    """The usual cache folder of this user: $XDG_CACHE_HOME/zmqservices, or ~/.cache/zmqservices."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "zmqservices")
