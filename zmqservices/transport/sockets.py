"""Makes sockets: one ZeroMQ context per owner, the options that every socket has, and a guard against forks."""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import dataclass, field

import zmq

from discovery.security import zap
from discovery.security.keys import Keys
from zmqservices.exceptions import ConfigurationError, ForkedProcessError
from zmqservices.transport import addresses
from zmqservices.utils.native_threads import allocate_lock

#: Messages that may wait in one queue, each way. ZeroMQ refuses more at the sender.
HIGH_WATER_MARK = 10_000

#: Bytes of a message besides the user's own values: envelope, headers, texts.
ENVELOPE_ROOM = 1024 * 1024

#: Bytes of a frame that an XPUB takes. Only topics arrive there, each is kept, and each of its bytes costs memory and time.
LONGEST_SUBSCRIPTION = 80

#: Every routing id is 16 random bytes after this one: nobody can guess another's, and ZeroMQ's own begin with a zero.
ROUTING_ID_PREFIX = b"\x01"
ROUTING_ID_LENGTH = 17

#: Sockets of one context; the operating system's limit on files is met first.
MAX_SOCKETS = 65_536


#: How many forks lie between the first process and this one. Counted, because asking for the pid is a system call.
_forks = 0


def _count_fork() -> None:
    global _forks, _shared, _sharers, _shared_lock
    _forks += 1
    if _shared is not None:
        _of_parents.append(_shared)
    _shared, _sharers, _shared_lock = None, 0, allocate_lock()


#: The context that the clients of this process share, their number, and the lock of both.
_shared: zmq.Context[zmq.Socket[bytes]] | None = None
_sharers = 0
_shared_lock = allocate_lock()
#: Contexts of the parent, never ended: ending them in a child would hang.
_of_parents: list[zmq.Context[zmq.Socket[bytes]]] = []

#: Numbers the addresses of monitors and of pairs within a context.
_inner = itertools.count(1)

os.register_at_fork(after_in_child=_count_fork)


def forked_error(pid: int) -> ForkedProcessError:
    """The error for a forked child that uses sockets of its parent `pid`."""
    return ForkedProcessError(
        f"ZeroMQ sockets of process {pid} cannot be used in its fork {os.getpid()}; "
        "start the client or service after the fork, or spawn instead of forking"
    )


class UnusableEndpoint(Exception):
    """No socket can connect to an announced address; the text quotes the address and says why."""


def refuse_unless_connectable(endpoint: str) -> None:
    """Raise UnusableEndpoint for an address of another kind than this release knows: before anything is opened for it."""
    try:
        _, port = addresses.parse(endpoint)
    except ConfigurationError:
        port = 0
    if not port or not endpoint.startswith("tcp://"):
        raise UnusableEndpoint(f"{endpoint[:100]!r} is no address that this release can connect to; tcp://IP:PORT is needed")


def refuse_unless_safe(keys: Keys | None, server_key: bytes | None) -> None:
    """Raise UnusableEndpoint where one end of a connection would be encrypted and the other one not."""
    if keys is None and server_key is not None:
        raise UnusableEndpoint("it takes encrypted connections only; set SECURITY to the folder of this process's keys")
    if keys is not None and server_key is None:
        raise UnusableEndpoint(
            "no public key of it is known, and this process makes encrypted connections only; run it with SECURITY, too"
        )


def bind(socket: zmq.Socket[bytes], address: str, what: str = "") -> str:
    """Listen at `tcp://IP:PORT`, IPv4 or IPv6; `tcp://*:PORT` is both, or IPv4 on a host that has nothing else.

    Returns the address that was bound, with its port. Where it cannot be bound, the socket is closed and ConfigurationError
    raised; `what` says in its text what the address is for.
    """
    try:
        socket.set(zmq.IPV6, addresses.needs_ipv6(address))
        socket.bind(address)
    except zmq.ZMQError as exc:
        socket.close(linger=0)
        raise ConfigurationError(
            f"cannot bind {address!r}{what}: {exc.strerror}; is the address this host's own, and its port free?"
        ) from exc
    return bytes(socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()


def bind_also(socket: zmq.Socket[bytes], address: str) -> None:
    """Let a bound socket listen at a second address. ConfigurationError where that cannot be; the socket stays as it was."""
    try:
        socket.set(zmq.IPV6, addresses.needs_ipv6(address))
        socket.bind(address)
    except zmq.ZMQError as exc:
        raise ConfigurationError(f"cannot bind {address!r}: {exc.strerror}") from exc


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Begin to connect to `tcp://IP:PORT`, IPv4 or IPv6; a socket may be connected to some of each."""
    socket.set(zmq.IPV6, addresses.needs_ipv6(endpoint))
    socket.connect(endpoint)


@dataclass(frozen=True)
class SocketOptions:
    """The settings of sockets. Sizes in bytes, times in seconds."""

    heartbeat: float = 2.0
    max_message_size: int = 64 * 1024 * 1024
    #: This node's keys; None where connections are not encrypted.
    keys: Keys | None = field(default=None, repr=False)
    #: Of encrypted connections, let through in a second.
    handshakes_per_second: int = zap.PER_SECOND


def _new_context() -> zmq.Context[zmq.Socket[bytes]]:
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
    return context


def _share() -> zmq.Context[zmq.Socket[bytes]]:
    global _shared, _sharers
    with _shared_lock:
        if _shared is None:
            _shared = _new_context()
        _sharers += 1
        return _shared


def _share_no_more() -> zmq.Context[zmq.Socket[bytes]] | None:
    """The context if no client shares it any more, and so has to be ended; otherwise None."""
    global _shared, _sharers
    with _shared_lock:
        _sharers -= 1
        if _sharers:
            return None
        unused, _shared = _shared, None
        return unused


class Sockets:
    """A ZeroMQ context and what is made from it. Belongs to one process: a fork of it is refused.

    `shared`: one context with all others of this process that are; six descriptors and two threads less for each. For those
    who let nothing linger: a context ends with the last of them.
    """

    def __init__(self, options: SocketOptions, shared: bool = False) -> None:
        self.options = options
        self._is_shared = shared
        self._is_closed = False
        self._context = _share() if shared else _new_context()
        self._pid = os.getpid()
        self._forks = _forks
        #: Judges the handshakes of encrypted connections; made for the first socket that is bound.
        self._zap: zap.ZapHandler | None = None

    def check_process(self) -> None:
        """Raise ForkedProcessError in a child of the process that made the sockets."""
        if _forks != self._forks:
            raise forked_error(self._pid)

    def dealer(self, server_key: bytes | None = None) -> zmq.Socket[bytes]:
        """A socket that calls one remote node: refuses to send while not connected, reconnects by itself with jitter.

        `server_key`: the public key of that node, where connections are encrypted.
        """
        self.check_process()
        refuse_unless_safe(self.options.keys, server_key)
        socket = self._context.socket(zmq.DEALER)
        self._common(socket)
        if self.options.keys is not None and server_key is not None:
            zap.secure_client(socket, self.options.keys, server_key)
        # Random and known to that node only, so that no other peer can use this client's id.
        socket.set(zmq.ROUTING_ID, ROUTING_ID_PREFIX + os.urandom(ROUTING_ID_LENGTH - 1))
        socket.set(zmq.IMMEDIATE, 1)
        socket.set(zmq.RECONNECT_IVL, random.randint(50, 150))
        socket.set(zmq.RECONNECT_IVL_MAX, 3000)
        socket.set(zmq.CONNECT_TIMEOUT, 3000)
        return socket

    def router(self) -> zmq.Socket[bytes]:
        """A socket that takes calls: reports a disconnected or full peer instead of dropping replies."""
        self.check_process()
        socket = self._context.socket(zmq.ROUTER)
        self._common(socket)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        # A peer that reconnects before its old connection was missed takes its place; its HELLO begins anew.
        socket.set(zmq.ROUTER_HANDOVER, 1)
        socket.set(zmq.BACKLOG, 1024)
        self._encrypt_server(socket)
        return socket

    def xpub(self) -> zmq.Socket[bytes]:
        """A socket that broadcasts: reports every subscription, also a second one for the same topic."""
        self.check_process()
        self._refuse_broadcasts()
        socket = self._context.socket(zmq.XPUB)
        self._common(socket)
        socket.set(zmq.XPUB_VERBOSER, 1)
        socket.set(zmq.MAXMSGSIZE, LONGEST_SUBSCRIPTION)
        socket.set(zmq.BACKLOG, 1024)
        return socket

    def sub(self) -> zmq.Socket[bytes]:
        """A socket that listens to broadcasts; reconnects by itself with jitter."""
        self.check_process()
        self._refuse_broadcasts()
        socket = self._context.socket(zmq.SUB)
        self._common(socket)
        socket.set(zmq.RECONNECT_IVL, random.randint(50, 150))
        socket.set(zmq.RECONNECT_IVL_MAX, 3000)
        return socket

    def pair(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        """Two sockets connected to each other; each may be used by a thread of its own."""
        self.check_process()
        address = f"inproc://pair-{next(_inner)}"
        ends = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        for socket in ends:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.SNDHWM, HIGH_WATER_MARK)
            socket.set(zmq.RCVHWM, HIGH_WATER_MARK)
        ends[0].bind(address)
        ends[1].connect(address)
        return ends

    def _refuse_broadcasts(self) -> None:
        # A subscription shows no certificate. Best-effort events go over the links of calls where connections are encrypted.
        if self.options.keys is not None:
            raise RuntimeError("broadcasts are not encrypted")

    def _encrypt_server(self, socket: zmq.Socket[bytes]) -> None:
        if self.options.keys is None:
            return
        if self._zap is None:
            self._zap = zap.ZapHandler(self._context, self.options.handshakes_per_second)
        zap.secure_server(socket, self.options.keys)

    def monitor(self, socket: zmq.Socket[bytes], events: int) -> zmq.Socket[bytes]:
        """A socket on which the connection events of `socket` arrive; see `zmqservices.transport.monitor`."""
        address = f"inproc://monitor-{next(_inner)}"
        socket.monitor(address, events)
        pair = self._context.socket(zmq.PAIR)
        pair.set(zmq.LINGER, 0)
        # Unbounded: with a bound, ZeroMQ's own thread, which serves all sockets, would wait for a busy hub to read.
        pair.set(zmq.RCVHWM, 0)
        pair.connect(address)
        return pair

    def _common(self, socket: zmq.Socket[bytes]) -> None:
        heartbeat = int(self.options.heartbeat * 1000)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.set(zmq.RCVHWM, HIGH_WATER_MARK)
        socket.set(zmq.MAXMSGSIZE, self.options.max_message_size + ENVELOPE_ROOM)
        # Set before bind and connect: they decide who pings. A peer is given up two beats after an unanswered one.
        socket.set(zmq.HEARTBEAT_IVL, heartbeat)
        socket.set(zmq.HEARTBEAT_TIMEOUT, 2 * heartbeat)
        socket.set(zmq.HEARTBEAT_TTL, 3 * heartbeat)
        socket.set(zmq.HANDSHAKE_IVL, max(3 * heartbeat, 1000))
        socket.set(zmq.TCP_KEEPALIVE, 1)

    def close(self) -> None:
        """End the context once its sockets are closed. Blocks while replies linger, a second at the most."""
        if _forks != self._forks or self._is_closed:
            return
        self._is_closed = True
        context = _share_no_more() if self._is_shared else self._context
        if context is not None:
            context.term()
