"""An HTTP client on gevent's sockets, so that services and clients of a test share one thread."""

import http.client
import json

import gevent
from gevent import socket

from tests.web.sockets import WebSocket
from zmqservices.web.server import WebServer


class Answer:
    """An HTTP response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<Answer {self.status} {self.body[:200]!r}>"


class Connection(http.client.HTTPConnection):
    """One that works beside a server in the same thread."""

    def connect(self):
        self.sock = socket.create_connection((self.host, self.port))

    def ask(self, method, path, body=None, headers=None, **options):
        self.request(method, path, body, headers or {}, **options)
        return Answer(self.getresponse())


class Web:
    """A client of a container's web server."""

    def __init__(self, container):
        self.container = container
        self.server = next(one for one in container.extensions if isinstance(one, WebServer))
        self.address = self.server.address
        self._connections = []

    def connect(self):
        """A connection for several requests; closed with the rest."""
        return self._kept(Connection(*self.address))

    def _kept(self, connection):
        self._connections.append(connection)
        return connection

    def ask(self, method, path, body=None, headers=None, **options):
        """Send one request on a new connection."""
        connection = Connection(*self.address)
        try:
            return connection.ask(method, path, body, headers, **options)
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def asking(self, *args, **kwargs):
        """A request under way: a greenlet whose `get()` is the answer."""
        return gevent.spawn(self.ask, *args, **kwargs)

    def raw(self, data=b""):
        """A bare connection on which `data` was sent."""
        sock = self._kept(socket.create_connection(self.address))
        sock.sendall(data)
        return sock

    def websocket(self, path="/ws", greeted=True, **options):
        """A WebSocket whose first message was read: `id` is what it told."""
        socket = self._kept(WebSocket(self.address, path, **options))
        if greeted:
            socket.id = socket.receive()["data"]["socket_id"]
        return socket

    def close(self):
        for connection in self._connections:
            connection.close()


def read_all(sock):
    """Everything until the other side closes."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def is_refused(address):
    """Whether nobody listens there."""
    try:
        socket.create_connection(address).close()
    except OSError:
        return True
    return False
