"""Makes sockets: one ZeroMQ context per owner, the options that every socket has, and a guard against forks."""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import dataclass, field

import zmq

from discovery.security import zap
from discovery.security.keys import Keys
from zmqservices.constants import DEFAULT_HELLO_TIMEOUT
from zmqservices.exceptions import ConfigurationError, ForkedProcessError
from zmqservices.transport import addresses
from zmqservices.utils.native_threads import allocate_lock

#: The most messages in one queue, each way. ZeroMQ refuses further ones at the sender.
HIGH_WATER_MARK = 10_000

#: Bytes of a message that are allowed besides the user's values: envelope, headers, texts.
ENVELOPE_ROOM = 1024 * 1024

#: The most bytes of a frame that an XPUB accepts. Only topics arrive there. Each is stored, and each byte costs memory and time.
LONGEST_SUBSCRIPTION = 80

#: The first byte of every routing id; random bytes follow, so that no id can be guessed. Ids made by ZeroMQ begin with a zero.
ROUTING_ID_PREFIX = b"\x01"
ROUTING_ID_LENGTH = 17

#: The most sockets of one context. The operating system's limit on open files is lower.
MAX_SOCKETS = 65_536


#: The number of forks between the first process and this one. Counted, because asking for the pid is a system call.
_forks = 0


def _count_fork() -> None:
    global _forks, _shared, _sharers, _shared_lock
    _forks += 1
    if _shared is not None:
        _of_parents.append(_shared)
    _shared, _sharers, _shared_lock = None, 0, allocate_lock()


#: The context that clients of this process share, the number of these clients, and the lock for both.
_shared: zmq.Context[zmq.Socket[bytes]] | None = None
_sharers = 0
_shared_lock = allocate_lock()
#: Contexts of the parent process. They are never ended, because ending them in a child would hang.
_of_parents: list[zmq.Context[zmq.Socket[bytes]]] = []

#: Numbers for the addresses of monitors and pairs within a context.
_inner = itertools.count(1)

os.register_at_fork(after_in_child=_count_fork)


def forked_error(pid: int) -> ForkedProcessError:
    """The error for a forked child that uses sockets of its parent `pid`."""
    return ForkedProcessError(
        f"ZeroMQ sockets of process {pid} cannot be used in its fork {os.getpid()}; "
        "start the client or service after the fork, or spawn instead of forking"
    )


class UnusableEndpoint(Exception):
    """No socket can connect to an announced address. The text quotes the address and says why."""


def refuse_unless_connectable(endpoint: str) -> None:
    """Raise UnusableEndpoint for a kind of address that this release does not know. Called before anything is opened for it."""
    try:
        _, port = addresses.parse(endpoint)
    except ConfigurationError:
        port = 0
    if not port or not endpoint.startswith("tcp://"):
        raise UnusableEndpoint(f"{endpoint[:100]!r} is no address that this release can connect to; tcp://IP:PORT is needed")


def refuse_unless_safe(keys: Keys | None, server_key: bytes | None) -> None:
    """Raise UnusableEndpoint if only one end of a connection would be encrypted."""
    if keys is None and server_key is not None:
        raise UnusableEndpoint("it takes encrypted connections only; set SECURITY to the folder of this process's keys")
    if keys is not None and server_key is None:
        raise UnusableEndpoint(
            "no public key of it is known, and this process makes encrypted connections only; run it with SECURITY, too"
        )


def bind(socket: zmq.Socket[bytes], address: str, what: str = "") -> str:
    """Listen at `tcp://IP:PORT`, IPv4 or IPv6. `tcp://*:PORT` means both, or IPv4 on a host without IPv6.

    Returns the bound address with its port. If it cannot be bound, closes the socket and raises ConfigurationError; `what` says
    in its text what the address is for.
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
    """Let a bound socket also listen at a second address.

    If it cannot, raises ConfigurationError and leaves the socket unchanged.
    """
    try:
        socket.set(zmq.IPV6, addresses.needs_ipv6(address))
        socket.bind(address)
    except zmq.ZMQError as exc:
        raise ConfigurationError(f"cannot bind {address!r}: {exc.strerror}") from exc


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Begin to connect to `tcp://IP:PORT`, IPv4 or IPv6. A socket may be connected to addresses of both kinds."""
    socket.set(zmq.IPV6, addresses.needs_ipv6(endpoint))
    socket.connect(endpoint)


@dataclass(frozen=True)
class SocketOptions:
    """The settings of sockets. Sizes in bytes, times in seconds."""

    heartbeat: float = 2.0
    max_message_size: int = 64 * 1024 * 1024
    #: This node's keys; None if connections are not encrypted.
    keys: Keys | None = field(default=None, repr=False)
    #: The most handshakes of encrypted connections per second.
    handshakes_per_second: int = zap.PER_SECOND
    #: For how long an accepted connection may be without a valid HELLO.
    hello_timeout: float = DEFAULT_HELLO_TIMEOUT


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
    """Leave the shared context. Returns it if no client shares it any more, so that it must be ended; otherwise None."""
    global _shared, _sharers
    with _shared_lock:
        _sharers -= 1
        if _sharers:
            return None
        unused, _shared = _shared, None
        return unused


class Sockets:
    """A ZeroMQ context and its sockets. It belongs to one process, and a fork must not use it.

    `shared`: use one context for all that are shared in this process, which saves six descriptors and two threads for each. Only
    for users whose messages need not linger, because the context ends with the last of them.
    """

    def __init__(self, options: SocketOptions, shared: bool = False) -> None:
        self.options = options
        self._is_shared = shared
        self._is_closed = False
        self._context = _share() if shared else _new_context()
        self._pid = os.getpid()
        self._forks = _forks
        #: Decides about the handshakes of encrypted connections. Made for the first socket that is bound.
        self._zap: zap.ZapHandler | None = None

    def check_process(self) -> None:
        """Raise ForkedProcessError in a child of the process that made the sockets."""
        if _forks != self._forks:
            raise forked_error(self._pid)

    def dealer(self, server_key: bytes | None = None) -> zmq.Socket[bytes]:
        """A socket for the link to one remote node. It refuses to send while it is not connected, and reconnects with jitter.

        `server_key`: the public key of that node if connections are encrypted.
        """
        self.check_process()
        refuse_unless_safe(self.options.keys, server_key)
        socket = self._context.socket(zmq.DEALER)
        self._common(socket)
        if self.options.keys is not None and server_key is not None:
            zap.secure_client(socket, self.options.keys, server_key)
        # Random, and known to that node only, so that no other peer can use the id of this client.
        socket.set(zmq.ROUTING_ID, ROUTING_ID_PREFIX + os.urandom(ROUTING_ID_LENGTH - 1))
        socket.set(zmq.IMMEDIATE, 1)
        socket.set(zmq.RECONNECT_IVL, random.randint(50, 150))
        socket.set(zmq.RECONNECT_IVL_MAX, 3000)
        socket.set(zmq.CONNECT_TIMEOUT, 3000)
        return socket

    def router(self) -> zmq.Socket[bytes]:
        """A socket that accepts links. It reports a disconnected or full peer instead of dropping messages."""
        self.check_process()
        socket = self._context.socket(zmq.ROUTER)
        self._common(socket)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        # A peer that reconnects before the end of its old connection was noticed replaces that connection, and says HELLO again.
        socket.set(zmq.ROUTER_HANDOVER, 1)
        socket.set(zmq.BACKLOG, 1024)
        self._encrypt_server(socket)
        return socket

    def xpub(self) -> zmq.Socket[bytes]:
        """A socket that broadcasts. It reports every subscription, also a second one for the same topic."""
        self.check_process()
        self._refuse_broadcasts()
        socket = self._context.socket(zmq.XPUB)
        self._common(socket)
        socket.set(zmq.XPUB_VERBOSER, 1)
        socket.set(zmq.MAXMSGSIZE, LONGEST_SUBSCRIPTION)
        socket.set(zmq.BACKLOG, 1024)
        return socket

    def sub(self) -> zmq.Socket[bytes]:
        """A socket that listens to broadcasts. It reconnects with jitter."""
        self.check_process()
        self._refuse_broadcasts()
        socket = self._context.socket(zmq.SUB)
        self._common(socket)
        socket.set(zmq.RECONNECT_IVL, random.randint(50, 150))
        socket.set(zmq.RECONNECT_IVL_MAX, 3000)
        return socket

    def pair(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        """Two sockets that are connected to each other. Each may be used in another thread."""
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
        # A subscription shows no certificate. With encryption, best-effort events go over the links of calls instead.
        if self.options.keys is not None:
            raise RuntimeError("broadcasts are not encrypted")

    def _encrypt_server(self, socket: zmq.Socket[bytes]) -> None:
        if self.options.keys is None:
            return
        if self._zap is None:
            self._zap = zap.ZapHandler(self._context, self.options.handshakes_per_second)
        zap.secure_server(socket, self.options.keys)

    def monitor(self, socket: zmq.Socket[bytes], events: int) -> zmq.Socket[bytes]:
        """A socket that receives the connection events of `socket`; see `zmqservices.transport.monitor`."""
        address = f"inproc://monitor-{next(_inner)}"
        socket.monitor(address, events)
        pair = self._context.socket(zmq.PAIR)
        pair.set(zmq.LINGER, 0)
        # Unbounded, because otherwise ZeroMQ's thread, which serves all sockets, would wait until a busy hub reads.
        pair.set(zmq.RCVHWM, 0)
        pair.connect(address)
        return pair

    def _common(self, socket: zmq.Socket[bytes]) -> None:
        heartbeat = int(self.options.heartbeat * 1000)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.set(zmq.RCVHWM, HIGH_WATER_MARK)
        socket.set(zmq.MAXMSGSIZE, self.options.max_message_size + ENVELOPE_ROOM)
        # Set before bind and connect, because each connection takes the options of that moment. A peer is given up two intervals
        # after an unanswered heartbeat.
        socket.set(zmq.HEARTBEAT_IVL, heartbeat)
        socket.set(zmq.HEARTBEAT_TIMEOUT, 2 * heartbeat)
        socket.set(zmq.HEARTBEAT_TTL, 3 * heartbeat)
        socket.set(zmq.HANDSHAKE_IVL, max(3 * heartbeat, 1000))
        socket.set(zmq.TCP_KEEPALIVE, 1)

    def close(self) -> None:
        """End the context once its sockets are closed. Blocks while replies are still being sent, a second at most."""
        if _forks != self._forks or self._is_closed:
            return
        self._is_closed = True
        context = _share_no_more() if self._is_shared else self._context
        if context is not None:
            context.term()
