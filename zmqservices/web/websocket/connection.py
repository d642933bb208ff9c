"""One client of a service's WebSocket: its running calls, its subscriptions, and its end.

Internal. Services use `zmqservices.web.websocket`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from gevent.event import Event

from zmqservices.web.guard import RateLimit
from zmqservices.web.websocket import messages
from zmqservices.web.websocket.transport import GOING_AWAY, WebSocketTransport

_log = logging.getLogger(__name__)

#: The most messages of one client in a second that are no calls. After more, its connection is closed.
MOST_FAULTS = 20


@dataclass(frozen=True)
class SocketInfo:
    """The client of a connection. `context_data`: the result of `WebServer.context_data_from_headers` for its handshake."""

    socket_id: str
    context_data: dict[str, Any] = field(default_factory=dict)
    remote_addr: str | None = None


class Connection:
    """One connection. `socket` describes the client; `subscriptions` are the channels whose events it gets."""

    def __init__(self, socket: SocketInfo, transport: WebSocketTransport, max_calls: int) -> None:
        self.socket = socket
        self.subscriptions: set[str] = set()
        self.transport = transport
        self._max_calls = max_calls
        self._calls = 0
        self._has_room = Event()
        self._has_room.set()
        self._goodbye: str | None = None
        #: The messages that were no calls.
        self.faults = RateLimit(MOST_FAULTS)

    @property
    def socket_id(self) -> str:
        """The id of the socket for the hub and for methods."""
        return self.socket.socket_id

    def send_event(self, text: str) -> None:
        """Send a message that `messages.event` made."""
        self.transport.send(text)

    # --- calls -------------------------------------------------------------------------------------------------------

    @property
    def is_read(self) -> bool:
        """Whether messages of the client are read. They are not while it has the most allowed calls in flight."""
        return self._has_room.is_set()

    def wait_for_room(self) -> None:
        """Block while the client has the most allowed calls in flight."""
        self._has_room.wait()

    def begin_call(self) -> None:
        """A call has begun, which must be answered once."""
        self._calls += 1
        if self._calls >= self._max_calls:
            self._has_room.clear()

    def answer(self, text: str) -> None:
        """Send the answer of a call in flight."""
        self.transport.send(text)
        self._calls -= 1
        self._has_room.set()
        if self._goodbye is not None:
            self.say_goodbye(self._goodbye)

    def say_goodbye(self, reason: str) -> None:
        """Close as soon as the calls in flight are answered."""
        self._goodbye = reason
        if not self._calls:
            self.transport.close(GOING_AWAY, reason)

    def cut(self, reason: str) -> None:
        """Cut the connection, without a closing handshake."""
        self.transport.cut(reason)
        self._has_room.set()

    def refuse(self, exc: BaseException, correlation_id: object) -> None:
        """Answer a call that never began."""
        self.transport.send(messages.refusal(exc, correlation_id))

    def __repr__(self) -> str:
        return f"<WebSocket {self.socket_id} of {self.socket.remote_addr}>"
