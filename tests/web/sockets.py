"""A WebSocket client on gevent's sockets, so that services and clients of a test share one thread."""

import itertools
import json

from gevent import socket
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)


class Refused(Exception):
    """The server refused the handshake."""

    def __init__(self, status, body):
        self.status, self.body = status, body
        super().__init__(status, body)


class Closed(Exception):
    """The connection is over; `code` is None where nothing was said."""

    def __init__(self, code, reason):
        self.code, self.reason = code, reason
        super().__init__(code, reason)


class WebSocket:
    """One connection. `messages` are those that were read while something else was looked for."""

    def __init__(self, address, path="/ws", headers=(), answers_pings=True, buffer=None):
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.connect(address)
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.answers_pings = answers_pings
        self.pings = 0
        self._ids = itertools.count(1)
        self._events = iter(())
        host = f"{address[0]}:{address[1]}"
        extra = [(name.encode(), value.encode()) for name, value in headers]
        try:
            self.put(Request(host=host, target=path, extra_headers=extra))
            self._shake_hands()
        except BaseException:
            self.close()
            raise

    def _shake_hands(self):
        status, body = None, b""
        while True:
            event = self._next()
            if isinstance(event, AcceptConnection):
                return
            if isinstance(event, RejectConnection):
                status = event.status_code
                if not event.has_body:
                    raise Refused(status, b"")
            elif isinstance(event, RejectData):
                body += event.data
                if event.body_finished:
                    raise Refused(status, body)

    def _next(self):
        while True:
            for event in self._events:
                return event
            data = self.sock.recv(65536)
            if not data:
                raise Closed(None, "")
            self.protocol.receive_data(data)
            self._events = self.protocol.events()

    def put(self, event):
        self.sock.sendall(self.protocol.send(event))

    def send_text(self, text):
        self.put(TextMessage(data=text))

    def send(self, method, correlation_id=None, **data):
        """Send a call; answers its correlation id."""
        correlation_id = correlation_id or f"call-{next(self._ids)}"
        self.send_text(json.dumps({"method": method, "data": data, "correlation_id": correlation_id}))
        return correlation_id

    def receive(self):
        """The next message, read as JSON. Raises Closed when there is none."""
        text = ""
        while True:
            event = self._next()
            if isinstance(event, Message):
                text += event.data
                if event.message_finished:
                    return json.loads(text)
            elif isinstance(event, Ping):
                self.pings += 1
                if self.answers_pings:
                    self.put(event.response())
            elif isinstance(event, CloseConnection):
                if self.protocol.state.name == "REMOTE_CLOSING":
                    self.put(event.response())
                raise Closed(event.code, event.reason)
            elif isinstance(event, Pong):
                return {"type": "pong", "payload": bytes(event.payload).decode()}

    def call(self, method, **data):
        """Send a call and return its whole answer; for connections on which nothing else happens."""
        correlation_id = self.send(method, **data)
        answer = self.receive()
        assert answer["correlation_id"] == correlation_id, answer
        return answer

    def result(self, method, **data):
        answer = self.call(method, **data)
        assert answer["success"], answer
        return answer["data"]

    def error(self, method, **data):
        answer = self.call(method, **data)
        assert not answer["success"], answer
        return answer["error"]

    def close(self):
        self.sock.close()
