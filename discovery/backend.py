"""The seam: what every kind of directory can do, and which kinds there are.

A kind is a URL scheme and the place of a factory `open(url, options) -> Kind or Directory`. Its module, and with it
the client library that it needs, is imported when the first URL of that scheme is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from discovery.exceptions import DirectoryConfigurationError
from discovery.model import DEFAULT_NOTE_TTL, Note, Record, Seen, View, shown_url
from discovery.security.keys import Keys

__all__ = ["Callback", "Directory", "DirectoryLock", "Factory", "factory_for", "register_backend"]

Callback = Callable[[View], None]


Believes = Callable[[Record | Note, str], bool]


def everything(found: Record | Note, where: str) -> bool:
    """All is believed: nothing is signed without SECURITY."""
    return True


@dataclass(frozen=True, slots=True)
class Options:
    """What every kind of directory is opened with; see `open_directory`."""

    namespace: str | None
    cache_dir: Path | None
    ttl: float
    #: Whether this process may host what the URL names, where that can be hosted at all.
    host: bool = True
    #: What the client asks for to begin with; None is everything. See `Directory.add_interest`.
    interest: frozenset[str] | None = None
    #: This node's keys, where connections to registries are encrypted.
    keys: Keys | None = None
    #: Whether what an engine holds is to be believed, and where it was found, for the log.
    believes: Believes = everything


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a directory can do, so that nobody has to guess it from a URL."""

    #: Instances can tell others of themselves. False where addresses are written down elsewhere, as in `static:`.
    can_announce: bool = True
    #: The first client on the machine hosts it: where no server answers, no other client is there.
    is_hosted_by_clients: bool = False
    #: Notes are stored; see `Directory.put`.
    stores_notes: bool = True
    #: Its servers hold locks, with fencing tokens; see `Directory.lock`.
    locks: bool = False
    #: Others only learn the address of a process by a means that knows its port beforehand, as DNS does.
    needs_fixed_port: bool = False
    #: Host and port of its servers. The route to one of them is the route to the peers: a process listens there.
    servers: tuple[tuple[str, int], ...] = ()
    #: Opened with keys, it shows nothing but what nodes signed or proved, or what was written down with their keys.
    takes_keys: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """What a factory makes of a URL whose servers one client can talk to beside those of other URLs."""

    #: What is shown of the URL: no password.
    name: str
    #: Where to look: each is a `discovery.client.seeds.Seed`.
    seeds: tuple[Any, ...]
    capabilities: Capabilities
    #: Seconds between two attempts to connect, at most.
    longest_pause: float
    #: Whether what is listed may be believed by a process that starts while no server answers.
    keeps_records: bool = True
    #: What makes its locks, where it has any: a `discovery.client.locks.EngineLocks`.
    locks: Any = None


class DirectoryLock(Protocol):
    """A lock that the servers of a directory hold for this process, from the time when it is free until `release`."""

    @property
    def token(self) -> int | None:
        """The fencing token while the lock is held, now; None while it is not.

        It is higher than those of all former holders. It turns to None before another process can get the lock: when no server
        has answered for nine tenths of the lease.
        """

    def release(self) -> None:
        """Gives the lock back; returns at once."""


class Directory(Protocol):
    """The known instances of every service. Usable from any thread and any greenlet; only methods with a timeout wait."""

    @property
    def capabilities(self) -> Capabilities:
        """What this directory can do; known from the start, and always the same."""

    def start(self) -> None:
        """Starts connecting to the registries. An unreachable registry is not an error."""

    def stop(self, timeout: float = 1.0) -> None:
        """Withdraws the announced records and ends the threads. Waits at most `timeout` seconds for registries to confirm."""

    def announce(self, record: Record) -> None:
        """Adds a record of this process, or replaces it by a higher version, and renews its lease until `withdraw`.

        Returns at once; see `flush`. DirectoryError when the record cannot be sent.
        """

    def withdraw(self, instance: str) -> None:
        """Removes a record of this process; subscribers learn of it at once. An instance never announced is ignored."""

    def put(self, key: str, value: dict[str, Any], *, ttl: float = DEFAULT_NOTE_TTL, age: float = 0.0) -> None:
        """Stores a note: `value` under `key`, for all clients of the namespace, beyond the life of this process.

        The note expires after `ttl` seconds. Put it again from time to time if it shall last. `age`: seconds since the
        value was observed; an observation replaces no newer note. Returns at once; see `flush`. DirectoryError when
        the note is too large, or when the directory was opened for all namespaces.
        """

    def delete(self, key: str) -> None:
        """Deletes the note under `key`, for all clients of the namespace.

        A tombstone replaces it for the rest of the note's ttl, so that no client that is away now brings it back.
        Returns at once; see `flush`. DirectoryError when the directory was opened for all namespaces.
        """

    def flush(self, timeout: float) -> bool:
        """True once all changes are acknowledged by every reachable registry, and by one at least."""

    def lock(self, name: str) -> DirectoryLock:
        """Waits, in the background, for the lock `name` of the namespace. Its lease is the `ttl` of `open_directory`.

        DirectoryError where `capabilities.locks` is False, or when the directory was opened for all namespaces.
        """

    def add_interest(self, services: Iterable[str] = (), sources: Iterable[str] = ()) -> None:
        """Also show the records of these services, and those that subscribe to events of these sources.

        Returns at once; see `wait_ready`. A directory that was opened for all services shows everything anyway, and so does
        one that was asked for more than 2,000 names. DirectoryError for what cannot be a name.
        """

    def view(self) -> View:
        """All records of interest, those that this process announced, and all notes of the namespace, as known now."""

    def service(self, name: str) -> list[Seen]:
        """The known instances of one service. Cheaper than `view`."""

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Calls `callback(view)` soon, and again after each change, from the directory's own thread.

        Returns a function that ends the subscription. The callback must not block. Its exceptions are logged and ignored.
        """

    def wait_ready(self, timeout: float, service: str | None = None) -> bool:
        """True once some registry has told all that it lists of the interest; False after `timeout` seconds.

        With `service`: all that it lists of this service, which is added to the interest if it was not in it.
        """

    def describe(self) -> str:
        """The directory's URL and how fresh its view is, for error texts."""


#: Opens a URL. What it makes is a `Kind`, or a whole directory, which then stands alone.
Factory = Callable[[str, Options], Kind | Directory]

#: The factory of each scheme, or its import path "module:function".
_factories: dict[str, str | Factory] = {
    "local": "discovery.backends.registries:open_local",
    "tcp": "discovery.backends.registries:open_tcp",
    "consul": "discovery.backends.consul:open_consul",
    "etcd": "discovery.backends.etcd:open_etcd",
    "dns": "discovery.backends.dns:open_dns",
    "dns+srv": "discovery.backends.dns:open_dns_srv",
    "zookeeper": "discovery.backends.zookeeper:open_zookeeper",
    "static": "discovery.backends.static:open_static",
}


def register_backend(scheme: str, factory: str | Factory) -> None:
    """Lets `factory` open URLs of `scheme`. `factory` is a function, or its import path "module:function"."""
    _factories[scheme] = factory


def factory_for(url: str) -> Factory:
    """The factory for this URL; DirectoryConfigurationError when its scheme is unknown."""
    scheme, colon, _ = url.partition(":")
    factory = _factories.get(scheme) if colon else None
    if factory is None:
        schemes = ", ".join(f"{name}:" for name in sorted(_factories))
        raise DirectoryConfigurationError(
            f"the directory URL is {shown_url(url)!r}, and no backend opens {scheme + colon!r}; one of {schemes} is "
            "needed, such as tcp://10.0.0.5:4190"
        )
    if isinstance(factory, str):
        module, _, name = factory.partition(":")
        found: Any = getattr(importlib.import_module(module), name)
        return _register_factory(scheme, found)
    return factory


def _register_factory(scheme: str, factory: Factory) -> Factory:
    _factories[scheme] = factory
    return factory
