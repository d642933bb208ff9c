"""One WebSocket (RFC 6455) on the socket of an HTTP connection: wsproto speaks the protocol, gevent's socket carries it.

Internal. Services use `zmqservices.web.websocket`.

One greenlet, the connection's own, receives. Anybody may send: what is sent waits in a bounded queue, written by a greenlet
that lives as long as there is something to write. wsproto is imported here alone. Compression is not offered: a few bytes
could then become more than any bound.
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
INTERNAL_ERROR = int(CloseReason.INTERNAL_ERROR)

#: Seconds that a client gets to answer a close before it is cut off.
CLOSE_TIMEOUT = 2.0
#: Bytes that are received in one go.
PIECE = 64 * 1024
#: Bytes of the reason of a close; a control frame has room for no more.
LONGEST_REASON = 120


class WebSocketTransport:
    """`handler` is that of the HTTP connection, whose request asked for the upgrade.

    Raises MalformedRequest where the request is no handshake.
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
            # Not only wsproto's own errors: what parses HTTP below it has others.
            raise MalformedRequest(f"not a WebSocket handshake: {exc}") from exc
        assert isinstance(self._request, Request)
        self._outgoing: deque[bytes] = deque()
        self._queued = 0
        self._writer: Any = None
        self._closing: Any = None
        self._is_open = False
        self._is_over = False
        #: When bytes were last received.
        self.heard_at = monotonic()
        #: Why it was closed from this side; "" otherwise.
        self.reason = ""

    def open(self, first: str) -> None:
        """Accept the handshake. `first` goes before what was sent meanwhile. Raises OSError when the client is gone."""
        self._handler.upgrade(self._protocol.send(AcceptConnection()))
        waiting, self._outgoing = list(self._outgoing), deque()
        self._is_open, self._queued = True, 0
        self.heard_at = monotonic()
        self.send(first)
        for data in waiting:
            self.send(data.decode())

    # --- receiving: in the connection's greenlet ---------------------------------------------------------------------

    def receive(self) -> str | None:
        """The next message; None when there will be no other."""
        parts: list[Any] = []
        size = 0
        while True:
            for event in self._protocol.events():
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
            # Not from the socket: the client's first bytes may have been read along with its request.
            data = self._handler.rfile.read1(PIECE)
        except (OSError, ValueError):
            data = b""
        self.heard_at = monotonic()
        if not data or self._is_over:
            return False
        self._protocol.receive_data(data)
        return True

    def _answer_close(self, event: CloseConnection) -> None:
        if self._protocol.state is ConnectionState.REMOTE_CLOSING:
            self._put(event.response())
        elif self._protocol.state is ConnectionState.OPEN:
            # Not the client's word but what is wrong with its frames.
            self._put(CloseConnection(code=event.code, reason=(event.reason or "")[:LONGEST_REASON]))

    # --- sending: from any greenlet, never blocks --------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Send a message. One that cannot be sent any more is dropped; a client that does not keep up is cut off."""
        if not self._is_open:
            if not self._is_over:
                self._enqueue(text.encode())
        else:
            self._put(TextMessage(data=text))

    def ping(self) -> None:
        """Send a ping; the answer counts as a sign of life."""
        self._put(Ping())

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake. The client gets `CLOSE_TIMEOUT` seconds to answer it."""
        if self._is_open and not self._is_over and self._protocol.state is ConnectionState.OPEN:
            self.reason = reason
            self._put(CloseConnection(code=code, reason=reason[:LONGEST_REASON]))
            self._closing = gevent.spawn_later(CLOSE_TIMEOUT, self.cut)

    def cut(self, reason: str = "") -> None:
        """Cut the connection, without a closing handshake."""
        self.reason = self.reason or reason
        self._is_over = True
        self._outgoing.clear()
        try:
            self._handler.socket.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            # It is gone already.
            pass

    def _put(self, event: Any) -> None:
        if self._is_over:
            return
        try:
            data = self._protocol.send(event)
        except LocalProtocolError:
            # It is closing, and nothing more may be said.
            return
        except Exception as exc:
            # Whoever sends has done nothing wrong, and goes on.
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
        """Called by the connection's greenlet when it is done: what is queued is sent, as far as the client takes it."""
        self._is_open = False
        writer = self._writer
        if writer is not None and not self._is_over:
            writer.join(CLOSE_TIMEOUT)
        self._is_over = True
        for greenlet in (self._writer, self._closing):
            if greenlet is not None:
                greenlet.kill(block=False)


def _size(data: Any) -> int:
    """Bytes that it took on the wire."""
    return len(data.encode()) if isinstance(data, str) and not data.isascii() else len(data)


def _text(parts: list[Any]) -> str:
    """A message whose pieces are all texts or all bytes; bytes are read as UTF-8."""
    if parts and not isinstance(parts[0], str):
        return b"".join(parts).decode("utf-8", "replace")
    return "".join(parts)
