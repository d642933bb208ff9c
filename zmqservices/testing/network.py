"""A network that a test can delay, drop, cut, split and heal, between services of one process and over real sockets.

    orders = container_factory(Orders, network.host("orders"))
    stock = container_factory(Stock, network.host("stock"))
    ...
    network.delay("orders", "stock", 0.2)      # seconds, each way
    network.drop("orders", "stock")            # nothing arrives any more, and neither side notices
    network.cut("orders", "stock")             # connections are reset, and new ones too
    network.split({"orders"}, {"stock", "directory"})
    network.heal()

Each host has separate settings, and so a separate node. There is a forwarder for each pair of hosts, so that each wire can fail
alone: in the directory that a host sees, the endpoints of other hosts are replaced by those of forwarders. The registry is the
host `directory`.

Two things differ from a real network. TCP's handshake with the forwarder succeeds even if nothing passes, so a connection
through a dropped wire hangs a moment later than it would. And dropped bytes arrive once the wire is healed, as if TCP had sent
them again, unless the connection was given up meanwhile.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import gevent
from gevent import socket as cooperative
from gevent.event import Event
from gevent.monkey import get_original
from gevent.queue import Queue

import discovery
from discovery.model import Record, Seen, View
from zmqservices import constants
from zmqservices.utils.native_threads import allocate_lock

__all__ = ["Forwarder", "Network", "ProxiedConnection", "SeenFrom", "Wire"]

#: The name of the registry's host.
DIRECTORY = "directory"
SCHEME = "testing-network"
#: Bytes that are read at once, and the number of such pieces that a wire holds before its sender must wait.
CHUNK, CHUNKS = 64 * 1024, 64

_socket: Any = get_original("socket", "socket")
#: With this SO_LINGER value, closing a socket sends a reset instead of a FIN.
_RESET = struct.pack("ii", 1, 0)


class Wire:
    """The connection between two hosts, in both directions. It can be delayed, dropped or cut."""

    def __init__(self) -> None:
        #: Set while bytes pass.
        self.passes = Event()
        self._connections: set[ProxiedConnection] = set()
        self.heal()

    def heal(self) -> None:
        """Undo every delay, drop and cut."""
        self.delay = 0.0
        self.is_cut = False
        self.passes.set()

    def cut(self) -> None:
        """Reset all connections, and new ones too, until the wire is healed."""
        self.is_cut = True
        for connection in list(self._connections):
            connection.reset()

    def connect(self, client: cooperative.socket, target: tuple[str, int]) -> None:
        """Forward a connection to `target`. Returns when the connection has ended."""
        connection = ProxiedConnection(self, client)
        self._connections.add(connection)
        try:
            connection.carry(target)
        finally:
            self._connections.discard(connection)


class ProxiedConnection:
    """One TCP connection through a wire."""

    def __init__(self, wire: Wire, client: cooperative.socket) -> None:
        self._wire = wire
        self._ends = [client]
        self._pumps: list[Any] = []

    def carry(self, target: tuple[str, int]) -> None:
        """Forward both directions. Returns when both have ended."""
        try:
            if self._wire.is_cut:
                self.reset()
                return
            self._wire.passes.wait()
            server = cooperative.create_connection(target)
            self._ends.append(server)
            client = self._ends[0]
            self._pumps = [gevent.spawn(self._pump, *pair) for pair in ((client, server), (server, client))]
            gevent.joinall(self._pumps)
        except OSError:
            self.reset()
        finally:
            self._close()

    def _pump(self, source: cooperative.socket, sink: cooperative.socket) -> None:
        pieces: Any = Queue(CHUNKS)
        reader = gevent.spawn(self._read, source, pieces)
        try:
            for due, piece in iter(pieces.get, None):
                gevent.sleep(max(0.0, due - time.monotonic()))
                self._wire.passes.wait()
                if not piece:
                    sink.shutdown(cooperative.SHUT_WR)
                    return
                sink.sendall(piece)
        except OSError:
            self.reset()
        finally:
            reader.kill()

    def _read(self, source: cooperative.socket, pieces: Queue) -> None:
        piece = b"..."
        while piece:
            try:
                piece = source.recv(CHUNK)
            except OSError:
                # Pass a reset on to the other end.
                self.reset()
                piece = b""
            pieces.put((time.monotonic() + self._wire.delay, piece))

    def reset(self) -> None:
        """End the connection with a reset at both ends, and without a FIN."""
        for end in self._ends:
            try:
                end.setsockopt(cooperative.SOL_SOCKET, cooperative.SO_LINGER, _RESET)
            except OSError:
                pass  # The socket was closed before.
        self._close()

    def _close(self) -> None:
        for end in self._ends:
            end.close()
        # A pump may be waiting for its wire to be healed.
        gevent.killall([pump for pump in self._pumps if pump is not gevent.getcurrent()], block=False)


class Forwarder:
    """Listens in place of one host for the connections of another host."""

    def __init__(self, wire: Wire, target: tuple[str, int], hub: gevent.hub.Hub) -> None:
        self._wire = wire
        self._target = target
        # The caller may be the directory's thread. Only the hub's thread may wait for connections.
        self._listener = _socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        host, port = self._listener.getsockname()
        self.url = f"tcp://{host}:{port}"
        self._accepting: Any = None
        self._carried: set[Any] = set()
        hub.loop.run_callback_threadsafe(self._start)

    def _start(self) -> None:
        if self._listener is not None:
            self._accepting = gevent.spawn(self._accept)

    def _accept(self) -> None:
        listener = cooperative.socket(fileno=self._listener.detach())
        try:
            while True:
                client, _ = listener.accept()
                carried = gevent.spawn(self._wire.connect, client, self._target)
                self._carried.add(carried)
                carried.rawlink(self._carried.discard)
        finally:
            listener.close()

    def close(self) -> None:
        """Stop listening, and end the connections that came through this forwarder."""
        listener, self._listener = self._listener, None
        if self._accepting is not None:
            self._accepting.kill()
        # Has no effect if the greenlet has detached the socket.
        listener.close()
        gevent.killall(list(self._carried))


class SeenFrom:
    """A directory as one host sees it: all other hosts are behind forwarders."""

    def __init__(self, directory: discovery.Directory, host: str, network: Network) -> None:
        self._directory = directory
        self._host = host
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._directory, name)

    def announce(self, record: Record) -> None:
        """Announce a record, and note that its endpoints belong to this host."""
        self._network.owns(self._host, record.endpoints.values())
        self._directory.announce(record)

    def view(self) -> View:
        return self._of_view(self._directory.view())

    def service(self, name: str) -> list[Seen]:
        return [self._of_seen(seen) for seen in self._directory.service(name)]

    def subscribe(self, callback: Callable[[View], None]) -> Callable[[], None]:
        end: Callable[[], None] = self._directory.subscribe(lambda view: callback(self._of_view(view)))
        return end

    def _of_view(self, view: View) -> View:
        return dataclasses.replace(view, records={key: self._of_seen(seen) for key, seen in view.records.items()})

    def _of_seen(self, seen: Seen) -> Seen:
        path = self._network.path
        endpoints = {kind: path(self._host, url) for kind, url in seen.record.endpoints.items()}
        return dataclasses.replace(seen, record=dataclasses.replace(seen.record, endpoints=endpoints))


class Network:
    """A network of named hosts; the module shows its use. To be made and used on one hub's thread."""

    _networks: ClassVar[dict[str, Network]] = {}
    _numbers = itertools.count(1)

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._id = str(next(self._numbers))
        self._hub = gevent.get_hub()
        self._lock = allocate_lock()
        self._hosts: set[str] = {DIRECTORY}
        self._owners: dict[str, str] = {}
        self._wires: dict[frozenset[str], Wire] = {}
        self._forwarders: dict[tuple[str, str], Forwarder] = {}
        self._networks[self._id] = self
        discovery.register_backend(SCHEME, _open)

    def host(self, name: str, **settings: object) -> dict[str, Any]:
        """The settings of a service or client on the host `name`. Several may share one host."""
        self._hosts.add(name)
        return {**self._config, **settings, constants.DIRECTORY_CONFIG_KEY: f"{SCHEME}:{self._id}/{name}"}

    # --- called by the test ---

    def delay(self, one: str, other: str, seconds: float) -> None:
        """Delay all bytes between the two hosts by `seconds`, each way."""
        self._wire(one, other).delay = float(seconds)

    def drop(self, one: str, other: str) -> None:
        """Drop all bytes between the two hosts. Neither side notices."""
        self._wire(one, other).passes.clear()

    def cut(self, one: str, other: str) -> None:
        """Reset the connections between the two hosts, and every new connection."""
        self._wire(one, other).cut()

    def split(self, *groups: Iterable[str]) -> None:
        """Drop all bytes between hosts of different groups. A host in no group reaches all others."""
        for these, those in itertools.combinations([list(group) for group in groups], 2):
            for one, other in itertools.product(these, those):
                self.drop(one, other)

    def heal(self, *hosts: str) -> None:
        """Heal all wires, or only the wires between `hosts` if any are named."""
        for pair, wire in self._wires.items():
            if not hosts or pair <= set(hosts):
                wire.heal()

    def _wire(self, one: str, other: str) -> Wire:
        for name in (one, other):
            if name not in self._hosts:
                raise ValueError(f"{name!r} is no host of this network; it has {', '.join(sorted(self._hosts))}")
        return self._wires.setdefault(frozenset((one, other)), Wire())

    # --- called by the hosts, also from directories' threads ---

    def owns(self, host: str, endpoints: Iterable[str]) -> None:
        """Called when a host announces where it listens."""
        with self._lock:
            self._owners.update((url, host) for url in endpoints)

    def path(self, host: str, url: str) -> str:
        """The address at which `host` reaches `url`: a forwarder's, or `url` itself unless another host owns it."""
        with self._lock:
            owner = self._owners.get(url)
            if owner is None or owner == host:
                return url
            found = self._forwarders.get((host, url))
            if found is None:
                parts = urlsplit(url)
                target = (str(parts.hostname), int(parts.port or 0))
                found = self._forwarders[(host, url)] = Forwarder(self._wire(host, owner), target, self._hub)
            return found.url

    def open(self, host: str, **options: Any) -> SeenFrom:
        """The directory that a host sees."""
        url = str(self._config[constants.DIRECTORY_CONFIG_KEY])
        registries = [part.strip() for part in url.split(",")]
        if url.startswith("tcp:"):
            self.owns(DIRECTORY, registries)
            url = ",".join(self.path(host, registry) for registry in registries)
        return SeenFrom(discovery.open_directory(url, **options), host, self)

    def close(self) -> None:
        """Close all forwarders and their connections. Hosts that still run cannot reach each other any more."""
        del self._networks[self._id]
        for forwarder in self._forwarders.values():
            forwarder.close()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _open(url: str, options: discovery.Options) -> Any:
    """The factory of this scheme: `testing-network:ID/HOST`."""
    number, _, host = url.partition(":")[2].partition("/")
    network = Network._networks[number]
    return network.open(host, namespace=options.namespace, cache_dir=options.cache_dir, ttl=options.ttl, keys=options.keys)
