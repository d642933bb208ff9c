"""The ZeroMQ context of this package and the sockets made in it.

Internal.

The context is the package's own, so that other code cannot close its sockets. There is one per process, never used after a fork.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Container
from typing import Any

import zmq

from discovery.exceptions import DirectoryForkedError
from discovery.native import native_lock
from discovery.protocol import MAX_PUSH, MAX_REQUEST
from discovery.security import zap
from discovery.security.keys import Keys

#: Seconds between ZMTP heartbeats of a registry. A frozen or unplugged client is disconnected after three of them.
HEARTBEAT = 5.0
#: Seconds between ZMTP heartbeats on the connection to a node. A frozen or unplugged node counts as gone after three of them.
NODE_HEARTBEAT = 2.0
#: The most bytes of a node's frame, as docs/protocol.rst allows.
MAX_NODE_FRAME = 64 * 1024 * 1024
#: High-water mark: messages that ZeroMQ queues for one slow client. Further changes wait in the registry.
HIGH_WATER = 5000
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
ACCEPTED, DISCONNECTED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
_EVENT = struct.Struct("=Hi")
#: The monitor events that a client's connection needs.
_EVENTS = zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | _HANDSHAKE_FAILED

_lock = native_lock()
#: Contexts by process id. A forked child keeps a reference to its parent's context: to terminate it there would hang.
_contexts: dict[int, zmq.Context[zmq.Socket[bytes]]] = {}
#: The handshake handler of each context that has an encrypted server.
_handlers: dict[int, zap.ZapHandler] = {}
_monitors = 0


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """The context of this process, created at its first use."""
    pid = os.getpid()
    with _lock:
        if pid not in _contexts:
            _contexts[pid] = zmq.Context()
        return _contexts[pid]


def check_process(pid: int) -> None:
    """DirectoryForkedError unless this is the process `pid`."""
    here = os.getpid()
    if pid != here:
        raise DirectoryForkedError(
            f"this directory was opened in process {pid} and is used in process {here}, forked from it; "
            "open a directory of its own there"
        )


def _judge_handshakes(per_second: int) -> None:
    """Starts the handshake handler of this process's context, if there is none. The pace of the first caller holds."""
    made = context()
    with _lock:
        if os.getpid() not in _handlers:
            _handlers[os.getpid()] = zap.ZapHandler(made, per_second)


def registry_socket(
    bind: str, keys: Keys | None = None, handshakes_per_second: int = zap.PER_SECOND
) -> zmq.Socket[bytes]:
    """A ROUTER with the limits of a registry. The caller binds it to `bind`. `keys`: for encrypted connections."""
    socket = context().socket(zmq.ROUTER)
    socket.linger = 0
    # `*` is IPv4 and IPv6; ZeroMQ falls back to IPv4 on a host that has nothing else.
    socket.setsockopt(zmq.IPV6, "[" in bind or "//*:" in bind)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(HEARTBEAT * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(HEARTBEAT * 3000))
    if keys is not None:
        _judge_handshakes(handshakes_per_second)
        zap.secure_server(socket, keys)
    return socket


def client_socket(largest: int = MAX_PUSH, keys: Keys | None = None, server_key: bytes = b"") -> zmq.Socket[bytes]:
    """An unconnected DEALER that sends nothing before it is connected, and never reconnects by itself.

    `largest`: the most bytes of a frame that is accepted. `keys`: for an encrypted connection to the holder of `server_key`.
    """
    socket = context().socket(zmq.DEALER)
    socket.linger = 0
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.MAXMSGSIZE, largest)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
    if keys is not None:
        zap.secure_client(socket, keys, server_key)
    return socket


def node_socket(keys: Keys | None = None, server_key: bytes = b"") -> zmq.Socket[bytes]:
    """A `client_socket` for a node that is not a registry: it chooses its own routing id, and has ZeroMQ's heartbeats.

    `keys` and `server_key`, the node's public key: for an encrypted connection.
    """
    socket = client_socket(MAX_NODE_FRAME, keys, server_key)
    socket.setsockopt(zmq.ROUTING_ID, b"\x01" + os.urandom(16))
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(NODE_HEARTBEAT * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(NODE_HEARTBEAT * 2000))
    return socket


def monitor_of(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """A socket that becomes readable when the connection of `socket` fails or ends."""
    return _monitor_of(socket, _EVENTS)


def server_monitor_of(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """A socket that becomes readable when a bound `socket` accepts or loses a connection, or a handshake with it fails."""
    return _monitor_of(socket, ACCEPTED | DISCONNECTED | _HANDSHAKE_FAILED)


def _monitor_of(socket: zmq.Socket[bytes], events: int) -> zmq.Socket[bytes]:
    global _monitors
    with _lock:
        _monitors += 1
        address = f"inproc://discovery-monitor-{_monitors}"
    socket.monitor(address, events)
    monitor = context().socket(zmq.PAIR)
    monitor.linger = 0
    # Without a limit: otherwise ZeroMQ's I/O thread, which serves all sockets, would wait until we read.
    monitor.setsockopt(zmq.RCVHWM, 0)
    monitor.connect(address)
    return monitor


def close_monitored(socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes] | None) -> None:
    """Closes a socket and its monitor, if it has one."""
    # The monitor is switched off before anything is closed: ZeroMQ's I/O thread reports the end of the connection a moment
    # later. Its send to a monitor that nobody reads would never return, and all sockets of this context would stop.
    socket.disable_monitor()
    socket.close(0)
    if monitor is not None:
        monitor.close(0)


def monitored_event(monitor: zmq.Socket[bytes]) -> int | None:
    """The next waiting event, or None."""
    found = monitored(monitor)
    return None if found is None else found[0]


def monitored(monitor: zmq.Socket[bytes]) -> tuple[int, int] | None:
    """The next waiting event and its value, which is the descriptor for ACCEPTED and DISCONNECTED; None if none waits."""
    try:
        frames = monitor.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None
    event, value = _EVENT.unpack(frames[0])
    return event, value


def is_handshake_failure(event: int) -> bool:
    """Whether the event says that a server which does not speak ZeroMQ listens at the address."""
    return bool(event & ~(zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED))


def receive_frames(socket: zmq.Socket[bytes], most: int) -> list[bytes] | None:
    """The frames of the next waiting message, or None. If it has more than `most`, only one frame beyond that is kept."""
    try:
        frames = [socket.recv(zmq.NOBLOCK)]
    except zmq.Again:
        return None
    while socket.getsockopt(zmq.RCVMORE):
        frame = socket.recv(zmq.NOBLOCK)
        if len(frames) <= most:
            frames.append(frame)
    return frames


def receive_message(
    socket: zmq.Socket[bytes], most: int, ignored: Container[bytes] = ()
) -> tuple[zmq.Frame, list[bytes]] | None:
    """The next message of a ROUTER: the frame of its routing id, for `address_of`, and all its frames; None if none waits.

    If the message has more than `most` frames, only one frame beyond that is kept; if its routing id is in `ignored`, only that.
    """
    try:
        first = socket.recv(zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return None
    frames = [first.bytes]
    if frames[0] in ignored:
        while socket.getsockopt(zmq.RCVMORE):
            socket.recv(zmq.NOBLOCK, copy=False)
        return first, frames
    while socket.getsockopt(zmq.RCVMORE):
        frame = socket.recv(zmq.NOBLOCK)
        if len(frames) <= most:
            frames.append(frame)
    return first, frames


def descriptor_of(frame: zmq.Frame) -> int:
    """The descriptor of the connection that a message came over; -1 if ZeroMQ does not say."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def address_of(frame: zmq.Frame) -> str:
    """The host that a message came from, for log lines; "an unknown address" if ZeroMQ does not say."""
    try:
        return str(frame.get("Peer-Address"))
    except zmq.ZMQError:
        return "an unknown address"


def try_send(socket: zmq.Socket[bytes], frames: list[Any]) -> bool | None:
    """True when ZeroMQ took the message, False when there is no room for now, None when the peer has disconnected."""
    try:
        socket.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        return False
    except zmq.ZMQError as exc:
        if exc.errno in (zmq.EHOSTUNREACH, zmq.ENOTCONN):
            return None
        raise
    return True
