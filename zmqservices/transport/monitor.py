"""Reads the connection events of one socket from ZeroMQ's monitor, including those of ZMTP handshakes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import zmq
from zmq.backend import Socket as BackendSocket

from zmqservices.transport.reactor import DRAIN_QUOTA, Reactor
from zmqservices.transport.sockets import Sockets

ACCEPTED = int(zmq.EVENT_ACCEPTED)
HANDSHAKE_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
CONNECT_FAILED = int(zmq.EVENT_CONNECT_RETRIED)
HANDSHAKE_FAILED_NO_DETAIL = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
HANDSHAKE_FAILED_PROTOCOL = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
HANDSHAKE_FAILED_AUTH = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
HANDSHAKE_FAILED = HANDSHAKE_FAILED_NO_DETAIL | HANDSHAKE_FAILED_PROTOCOL | HANDSHAKE_FAILED_AUTH

# Quicker than `recv_multipart`, which matters when many connections begin at once.
_recv = BackendSocket.recv
_NOBLOCK = int(zmq.NOBLOCK)
_EVENT = struct.Struct("=hi")


class Monitor:
    """Reads the monitor's socket and calls `tell(event, value)`. Close it together with the watched socket.

    `value`: for ACCEPTED and DISCONNECTED, the descriptor of the connection.
    """

    def __init__(
        self, reactor: Reactor, sockets: Sockets, watched: Any, events: int, tell: Callable[[int, int], None]
    ) -> None:
        self._watched = watched
        self._tell = tell
        self.socket = sockets.monitor(watched, events)
        self._watch = reactor.watch(self)

    def drain(self) -> bool:
        for _ in range(DRAIN_QUOTA):
            if self.socket.closed:
                return False
            try:
                event = _recv(self.socket, _NOBLOCK)
                _recv(self.socket, _NOBLOCK)  # The address.
            except zmq.Again:
                return False
            self._tell(*_EVENT.unpack(event))
        return True

    def leave(self) -> None:
        """Read no more events. Another thread closes the watched socket, and then `socket`."""
        self._watch.close()

    def close(self) -> None:
        self._watch.close()
        self._watched.disable_monitor()
        self.socket.close(linger=0)
