"""Connections to ZeroMQ sockets that speak their protocol (ZMTP 3.0) by hand, for what no ZeroMQ socket would say."""

from __future__ import annotations

import socket

from zmqservices.transport import addresses

#: A greeting without security.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def frame(body: bytes, more: bool = False, command: bool = False) -> bytes:
    """One frame, its length right."""
    flags = (1 if more else 0) | (4 if command else 0)
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | 2]) + len(body).to_bytes(8, "big") + body


def ready(kind: bytes, routing_id: bytes = b"") -> bytes:
    """The command with which a socket of this kind says that it is there. Without a routing id, the other end makes one."""
    body = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    if routing_id:
        body += b"\x08Identity" + len(routing_id).to_bytes(4, "big") + routing_id
    return frame(body, command=True)


def connect(endpoint: str, said: bytes = b"") -> socket.socket:
    """A connection to `tcp://HOST:PORT` that has sent these bytes."""
    raw = socket.create_connection(addresses.parse(endpoint), 30)
    raw.sendall(said)
    return raw


def shake_hands(raw: socket.socket) -> None:
    """Wait for the greeting and the READY of the other end: what comes before it is ready, it does not even look at."""
    seen = b""
    while b"\x05READY" not in seen:
        some = raw.recv(500)
        if not some:
            raise ConnectionError("the connection was ended during the handshake")
        seen += some


def has_ended(raw: socket.socket) -> bool:
    """Whether the other end has ended the connection. What it has sent is dropped; from here on the connection blocks no more."""
    raw.setblocking(False)
    try:
        while raw.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
