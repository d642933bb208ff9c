"""A WebSocket client for tests, on the hub that may also serve. The only file of the kit that needs wsproto.

    app, wait_for_socket = make_virtual_socket("127.0.0.1", 8000)
    gevent.spawn(app.run_forever)
    socket = wait_for_socket()
    socket.rpc("subscribe", channel="news")
    socket.wait_for_event("headline")
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from gevent import socket as cooperative
from gevent.event import AsyncResult
from gevent.lock import RLock
from gevent.queue import Queue

from zmqservices.exceptions import deserialize

try:
    from wsproto import ConnectionType, WSConnection, events
except ImportError as error:
    raise ImportError("wsproto is not installed; `pip install zmqservices[testing]` brings it") from error

__all__ = ["ConnectionRefused", "VirtualSocket", "WebSocketApp", "make_virtual_socket"]

#: Bytes that are read at once.
CHUNK = 64 * 1024


class ConnectionRefused(ConnectionError):
    """The server did not accept the WebSocket."""


class WebSocketApp:
    """One connection. Spawn `run_forever`, which reads the connection until it ends.

    `on_message(app, text)` is called for each received text, and `on_close(app)` at the end. A test may replace both.
    """

    def __init__(self, host: str, port: int, path: str, on_message: Callable[[Any, str], None]) -> None:
        self._address = (host, port)
        self._path = path
        self.on_message = on_message
        self.on_close: Callable[[Any], None] | None = None
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._socket: Any = None
        self._sending = RLock()
        self._text = ""
        #: Set when the server has accepted the connection. Gets an error if the server refuses it.
        self.accepted: AsyncResult[None] = AsyncResult()
        #: Set when the connection has ended: the server's (code, reason), or None if the server sent none.
        self.ended: AsyncResult[tuple[int, str] | None] = AsyncResult()
        self._goodbye: tuple[int, str] | None = None

    def run_forever(self) -> None:
        """Connect, and hand every text to `on_message` until the connection ends."""
        try:
            self._socket = cooperative.create_connection(self._address)
            host, port = self._address
            self._send(events.Request(host=f"{host}:{port}", target=self._path))
            while self._read():
                pass
        except Exception as exc:
            self._fail(exc)
        finally:
            self._fail(ConnectionError("the connection ended before it was accepted"))
            if self._socket is not None:
                self._socket.close()
            self.ended.set(self._goodbye)
            if self.on_close is not None:
                self.on_close(self)

    def _fail(self, exc: Exception) -> None:
        if not self.accepted.ready():
            self.accepted.set_exception(exc)

    def _read(self) -> bool:
        received = self._socket.recv(CHUNK)
        self._protocol.receive_data(received or None)
        goes_on = bool(received)
        for event in self._protocol.events():
            goes_on = self._take(event) and goes_on
        return goes_on

    def _take(self, event: object) -> bool:
        """Handle one message of the server. Returns whether the connection goes on."""
        if isinstance(event, events.AcceptConnection):
            self.accepted.set(None)
        elif isinstance(event, events.RejectConnection):
            self._fail(ConnectionRefused(f"the server answered {event.status_code}"))
            return False
        elif isinstance(event, events.TextMessage):
            self._text += event.data
            if event.message_finished:
                text, self._text = self._text, ""
                self.on_message(self, text)
        elif isinstance(event, events.Ping):
            self._send(event.response())
        elif isinstance(event, events.CloseConnection):
            self._goodbye = (event.code, event.reason or "")
            if self._protocol.state.name == "REMOTE_CLOSING":
                self._send(event.response())
            return False
        return True

    def _send(self, event: Any) -> None:
        with self._sending:
            self._socket.sendall(self._protocol.send(event))

    def send(self, text: str | bytes) -> None:
        """Send a text (or the UTF-8 bytes of one). Raises OSError, or wsproto's ProtocolError, once the connection has ended."""
        self._send(events.Message(data=text if isinstance(text, str) else bytes(text).decode()))

    def send_binary(self, data: bytes) -> None:
        """Send a binary message, to test how the service answers it. Raises the errors of `send`."""
        self._send(events.Message(data=data))

    def close(self) -> None:
        """Close the connection: `run_forever` returns when the server has answered. Does nothing if the connection has ended."""
        if self._socket is not None and not self.ended.ready() and self._protocol.state.name == "OPEN":
            try:
                self._send(events.CloseConnection(code=1000))
            except OSError:
                self._socket.close()


class VirtualSocket:
    """The side of a connection that a test uses: calls and events."""

    #: Set by the `websocket` fixture.
    app: Any = None

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._answers: dict[str, AsyncResult[dict[str, Any]]] = {}
        self._events: defaultdict[str, Any] = defaultdict(Queue)

    def rpc(self, _method: str, **data: object) -> Any:
        """Call a method of the service. Returns its result or raises its error; ConnectionError if the connection ends."""
        correlation_id = str(uuid.uuid4())
        answer = self._answers[correlation_id] = AsyncResult()
        self._send(json.dumps({"method": _method, "data": data, "correlation_id": correlation_id}))
        message = answer.get()
        if not message["success"]:
            raise deserialize(message["error"])
        return message["data"]

    def get_event_queue(self, event_type: str) -> Any:
        """A queue of the received events of that type, each `(event_type, data)`."""
        return self._events[event_type]

    def wait_for_event(self, event_type: str) -> tuple[str, Any]:
        """Wait for the next event of that type, and return `(event_type, data)`."""
        event: tuple[str, Any] = self._events[event_type].get()
        return event

    def take(self, text: str) -> None:
        """Called with each text from the server."""
        message = json.loads(text)
        if message["type"] == "event":
            self._events[message["event"]].put((message["event"], message["data"]))
        elif message["type"] == "result":
            answer = self._answers.pop(message["correlation_id"], None)
            if answer is not None:
                answer.set(message)

    def ended(self, _outcome: object) -> None:
        """Called when the connection has ended. Waiting calls get an error."""
        for answer in self._answers.values():
            answer.set_exception(ConnectionError("the WebSocket was closed before the answer came"))
        self._answers.clear()


def make_virtual_socket(host: str, port: int, path: str = "/ws") -> tuple[WebSocketApp, Callable[[], VirtualSocket]]:
    """A client, whose `run_forever` you must spawn, and a function that waits until it is connected.

    The function returns the socket for the test. It raises the error if the connection failed.
    """
    app = WebSocketApp(host, port, path, lambda _app, text: socket.take(text))
    socket = VirtualSocket(app.send)
    app.ended.rawlink(socket.ended)

    def wait_for_socket() -> VirtualSocket:
        app.accepted.get()
        return socket

    return app, wait_for_socket
