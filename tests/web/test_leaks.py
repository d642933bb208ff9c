"""A process keeps nothing of clients that have left."""

import gc
import logging

import gevent
import psutil
import pytest
from gevent import Greenlet

from tests.stage import until
from tests.web.test_websocket import Chat, server_of
from zmqservices.web.exchange import Body, HttpExchange
from zmqservices.web.handlers import http
from zmqservices.web.protocol import HttpOnlyProtocol
from zmqservices.web.websocket.connection import Connection
from zmqservices.web.websocket.transport import WebSocketTransport


class Service(Chat):
    name = "service"

    @http("GET", "/")
    def get(self, request):
        return "hello"

    @http("GET", "/stream")
    def stream(self, request):
        while True:
            yield "more"
            gevent.sleep(0.001)

    @http("GET", "/error")
    def error(self, request):
        raise ValueError


def come_and_go(web):
    """Clients of every kind, well-behaved or not."""
    assert web.get("/").text == "hello"
    assert web.get("/error").status == 500
    assert web.get("/nowhere").status == 404
    for data in (b"", b"GET", b"nonsense\r\n\r\n", b"GET /stream HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        web.raw(data).close()
    socket = web.websocket()
    socket.result("join", room="maths")
    socket.send_text("{")
    socket.send("say", room="maths", text="x")
    socket.close()
    web._connections.clear()


def living(*classes):
    gc.collect()
    return sorted(type(one).__name__ for one in gc.get_objects() if isinstance(one, classes))


@pytest.fixture
def no_records():
    """No log is kept: the tracebacks of errors hold all that was around them."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_nothing_is_kept_of_clients_that_have_left(serve, no_records):
    web = serve(Service)
    kinds = (Body, HttpExchange, HttpOnlyProtocol, Connection, WebSocketTransport)
    come_and_go(web)

    def is_quiet():
        return not web.server._answering and not web.server._site._server.connections

    until(is_quiet)
    before = living(*kinds)
    files = psutil.Process().num_fds()
    greenlets = len(living(Greenlet))

    for _ in range(50):
        come_and_go(web)
    until(is_quiet)
    until(lambda: web.container.pool.running() == 0)

    assert server_of(web).connections == server_of(web).channels == {}
    assert all(not entrypoint._exchanges for entrypoint in web.container.entrypoints if hasattr(entrypoint, "_exchanges"))
    assert living(*kinds) == before
    assert psutil.Process().num_fds() <= files
    # Parked workers are kept on purpose, and are few.
    assert len(living(Greenlet)) <= greenlets + web.container.max_workers
