"""The interface of every kind of directory, and the list of all kinds.

A kind has a URL scheme and a factory `open(url, options) -> Kind or Directory`. The factory's module, and with it the client
library that it needs, is imported when the first URL of that scheme is opened.
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
    """Believes everything: without SECURITY nothing is signed."""
    return True


@dataclass(frozen=True, slots=True)
class Options:
    """The options with which every kind of directory is opened; see `open_directory`."""

    namespace: str | None
    cache_dir: Path | None
    ttl: float
    #: Whether this process may host the directory, if the URL names one that clients host.
    host: bool = True
    #: The first interest of the client; None is everything. See `Directory.add_interest`.
    interest: frozenset[str] | None = None
    #: This node's keys; None without SECURITY.
    keys: Keys | None = None
    #: Whether a record or note in an engine is believed. The second argument says where it was found, for the log.
    believes: Believes = everything


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a directory can do, so that callers need not guess it from the URL."""

    #: Instances can announce themselves. False if the addresses are fixed elsewhere, as in `static:`.
    can_announce: bool = True
    #: The first client on the machine hosts it. So if no server answers, there is no other client.
    is_hosted_by_clients: bool = False
    #: Notes are stored; see `Directory.put`.
    stores_notes: bool = True
    #: Its servers hold locks, with fencing tokens; see `Directory.lock`.
    locks: bool = False
    #: Other processes must know the port of a process beforehand, as with DNS.
    needs_fixed_port: bool = False
    #: Host and port of its servers. A process listens at the address from which it reaches them, since its peers are there, too.
    servers: tuple[tuple[str, int], ...] = ()
    #: With keys, it shows only records that nodes have signed or proved, or that are fixed together with their keys.
    takes_keys: bool = False
    #: It passes on lists of revoked certificates. If it does not, nodes do, over their connections for calls.
    carries_revocations: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """The result of a factory, if one client can use the servers of this URL together with those of other URLs."""

    #: The URL without its password.
    name: str
    #: Where to connect: each is a `discovery.client.seeds.Seed`.
    seeds: tuple[Any, ...]
    capabilities: Capabilities
    #: The longest time in seconds between two attempts to connect.
    longest_pause: float
    #: Whether a process that starts while no server answers may use the cached records.
    keeps_records: bool = True
    #: Its locks, a `discovery.client.locks.EngineLocks`; None if it has none.
    locks: Any = None


class DirectoryLock(Protocol):
    """A lock that the servers of a directory hold for this process, from the time when it is free until `release`."""

    @property
    def token(self) -> int | None:
        """The fencing token while the lock is held; None otherwise.

        It is higher than the tokens of all former holders. It becomes None before another process can get the lock: when no
        server has answered for nine tenths of the lease.
        """

    def release(self) -> None:
        """Gives the lock back; returns at once."""


class Directory(Protocol):
    """The known instances of every service. Usable from any thread and any greenlet; only methods with a timeout wait."""

    @property
    def capabilities(self) -> Capabilities:
        """What this directory can do. Known from the start; never changes."""

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
        """True once every reachable registry, and at least one, has acknowledged all changes; False after `timeout` seconds."""

    def lock(self, name: str) -> DirectoryLock:
        """Waits, in the background, for the lock `name` of the namespace. Its lease is the `ttl` of `open_directory`.

        DirectoryError if `capabilities.locks` is False, or the directory was opened for all namespaces.
        """

    def add_interest(self, services: Iterable[str] = (), sources: Iterable[str] = ()) -> None:
        """Also show the records of these services, and those that subscribe to events of these sources.

        Returns at once; see `wait_ready`. A directory that was opened for all services shows everything anyway, and so does
        one that was asked for more than 2,000 names. DirectoryError for a text that cannot be a name.
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
        """True once some registry has sent all its records of the interest; False after `timeout` seconds.

        With `service`: all its records of this service, which is added to the interest if needed.
        """

    def describe(self) -> str:
        """The directory's URL and how fresh its view is, for error texts."""


#: Opens a URL. Returns a `Kind`, or a whole directory, which cannot be combined with other URLs.
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
