"""One WebSocket (RFC 6455) on the socket of an HTTP connection. wsproto implements the protocol.

Internal. Services use `zmqservices.web.websocket`.

Only the connection's greenlet receives. Any greenlet may send: messages wait in a bounded queue, from which another greenlet
writes while there is something to write. Only this module imports wsproto. Compression is not offered, because then a few bytes
could become more than any bound.
"""

from __future__ import annotations

import socket
from collections import deque
from time import monotonic
from typing import Any

import gevent
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Request, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from zmqservices.exceptions import MalformedRequest
from zmqservices.web.protocol import HttpOnlyProtocol

GOING_AWAY = int(CloseReason.GOING_AWAY)
TOO_BIG = int(CloseReason.MESSAGE_TOO_BIG)
POLICY_VIOLATION = int(CloseReason.POLICY_VIOLATION)
INTERNAL_ERROR = int(CloseReason.INTERNAL_ERROR)

#: Seconds that a client has to answer a close before it is disconnected.
CLOSE_TIMEOUT = 2.0
#: Bytes that are received at a time.
PIECE = 64 * 1024
#: The most bytes of the reason of a close. A control frame has no more room.
LONGEST_REASON = 120


class WebSocketTransport:
    """One WebSocket. `handler` is the handler of the HTTP connection whose request asked for the upgrade.

    Raises MalformedRequest if the request is no handshake.
    """

    def __init__(self, handler: HttpOnlyProtocol, headers: list[tuple[bytes, bytes]], max_message: int, max_queued: int) -> None:
        self._handler = handler
        self._max_message = max_message
        self._max_queued = max_queued
        self._protocol = WSConnection(ConnectionType.SERVER)
        try:
            self._protocol.initiate_upgrade_connection(headers, "/")
            self._request = next(self._protocol.events())
        except Exception as exc:
            # wsproto's HTTP parser raises other errors than wsproto itself.
            raise MalformedRequest(f"not a WebSocket handshake: {exc}") from exc
        assert isinstance(self._request, Request)
        self._outgoing: deque[bytes] = deque()
        self._queued = 0
        self._writer: Any = None
        self._closing: Any = None
        self._is_open = False
        self._is_over = False
        self._turn = handler.turn
        #: The time at which bytes were last received.
        self.heard_at = monotonic()
        #: Why this side closed the connection; "" if it did not.
        self.reason = ""

    def open(self, first: str) -> None:
        """Accept the handshake.

        `first` is sent before messages that were queued meanwhile. Raises OSError if the client is gone.
        """
        self._handler.upgrade(self._protocol.send(AcceptConnection()))
        waiting, self._outgoing = list(self._outgoing), deque()
        self._is_open, self._queued = True, 0
        self.heard_at = monotonic()
        self.send(first)
        for data in waiting:
            self.send(data.decode())

    # --- receiving: in the connection's greenlet ---------------------------------------------------------------------

    def receive(self) -> str | None:
        """The next message; None once the connection has ended."""
        parts: list[Any] = []
        size = 0
        while True:
            for event in self._protocol.events():
                self._turn.give_way()
                if isinstance(event, Message):
                    size += _size(event.data)
                    if size > self._max_message:
                        self.close(TOO_BIG, f"a message may have {self._max_message} bytes")
                        parts.clear()
                    elif event.data:
                        parts.append(event.data)
                    if event.message_finished and size <= self._max_message:
                        return _text(parts)
                elif isinstance(event, Ping):
                    self._put(event.response())
                elif isinstance(event, CloseConnection):
                    self._answer_close(event)
                    return None
            if not self._read():
                return None

    def _read(self) -> bool:
        try:
            # Not from the socket, because the client's first bytes may have been read together with its request.
            data = self._handler.rfile.read1(PIECE)
        except (OSError, ValueError):
            data = b""
        self.heard_at = monotonic()
        if not data or self._is_over:
            return False
        self._handler.used_again()
        self._protocol.receive_data(data)
        return True

    def _answer_close(self, event: CloseConnection) -> None:
        if self._protocol.state is ConnectionState.REMOTE_CLOSING:
            self._put(event.response())
        elif self._protocol.state is ConnectionState.OPEN:
            # This close is not the client's: it is wsproto's, for a fault in the client's frames.
            self._put(CloseConnection(code=event.code, reason=(event.reason or "")[:LONGEST_REASON]))

    # --- sending: from any greenlet, never blocks --------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Send a message. It is dropped if the connection is closing; a client that does not keep up is disconnected."""
        if not self._is_open:
            if not self._is_over:
                self._enqueue(text.encode())
        else:
            self._put(TextMessage(data=text))

    def ping(self) -> None:
        """Send a ping; the answer counts as a sign of life."""
        self._put(Ping())

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake. The client has `CLOSE_TIMEOUT` seconds to answer."""
        if self._is_open and not self._is_over and self._protocol.state is ConnectionState.OPEN:
            self.reason = reason
            self._put(CloseConnection(code=code, reason=reason[:LONGEST_REASON]))
            self._closing = gevent.spawn_later(CLOSE_TIMEOUT, self.cut)

    def cut(self, reason: str = "") -> None:
        """Close the connection without a closing handshake."""
        self.reason = self.reason or reason
        self._is_over = True
        self._outgoing.clear()
        try:
            self._handler.socket.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            # The client is already gone.
            pass

    def _put(self, event: Any) -> None:
        if self._is_over:
            return
        try:
            data = self._protocol.send(event)
        except LocalProtocolError:
            # The connection is closing, and no more messages may be sent.
            return
        except Exception as exc:
            # The error is not the sender's fault, so it goes on.
            self.cut(f"{type(exc).__name__} while it was sent to")
            return
        self._enqueue(data)
        if self._writer is None and not self._is_over:
            self._writer = gevent.spawn(self._write)

    def _enqueue(self, data: bytes) -> None:
        if self._queued + len(data) > self._max_queued:
            self.cut(f"it did not read the {self._queued} bytes that waited for it")
            return
        self._queued += len(data)
        self._outgoing.append(data)

    def _write(self) -> None:
        try:
            while self._outgoing:
                data = b"".join(self._outgoing) if len(self._outgoing) > 1 else self._outgoing[0]
                self._outgoing.clear()
                self._handler.socket.sendall(data)
                self._queued -= len(data)
        except (OSError, AttributeError):
            self._is_over = True
        finally:
            self._writer = None

    def end(self) -> None:
        """Called by the connection's greenlet at its end: send queued messages if the client still reads."""
        self._is_open = False
        writer = self._writer
        if writer is not None and not self._is_over:
            writer.join(CLOSE_TIMEOUT)
        self._is_over = True
        for greenlet in (self._writer, self._closing):
            if greenlet is not None:
                greenlet.kill(block=False)


def _size(data: Any) -> int:
    """The bytes of a message on the wire."""
    return len(data.encode()) if isinstance(data, str) and not data.isascii() else len(data)


def _text(parts: list[Any]) -> str:
    """A message from its pieces, all texts or all bytes. Bytes are decoded as UTF-8."""
    if parts and not isinstance(parts[0], str):
        return b"".join(parts).decode("utf-8", "replace")
    return "".join(parts)
