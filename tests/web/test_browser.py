"""One service with @rpc, @http, WebSockets and @timer at once; a browser's page, curl and Python clients all talk to it."""

import itertools
import shutil
from pathlib import Path

import gevent
import pytest
from gevent.event import AsyncResult

from tests.documents.sessions import run
from tests.fixtures import cluster_config, registry_url
from tests.stage import aside
from tests.web.browser import Browser
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ClusterRpcProxy
from zmqservices.timer import timer
from zmqservices.web import websocket
from zmqservices.web.handlers import http

__all__ = ["cluster_config", "registry_url"]

PAGE = Path(__file__).with_name("page.html").read_text("utf-8")
numbers = itertools.count(1)


class Everything:
    name = "everything"
    hub = websocket.WebSocketHubProvider()
    reported = AsyncResult()

    @rpc
    @websocket.rpc
    def echo(self, socket_id, text):
        return text

    @rpc
    def multiply(self, a, b):
        return a * b

    @websocket.rpc
    def add(self, socket_id, a, b):
        return a + b

    @websocket.rpc
    def fail(self, socket_id):
        raise LookupError("the secret")

    @websocket.rpc
    def join(self, socket_id, room):
        self.hub.subscribe(socket_id, room)

    @websocket.rpc
    def say(self, socket_id, room, text):
        self.hub.broadcast(room, "said", {"text": text})

    @timer(interval=0.02)
    def tick(self):
        self.hub.broadcast("clock", "tick", {"number": next(numbers)})

    @http("GET", "/")
    def page(self, request):
        return 200, {"Content-Type": "text/html; charset=utf-8"}, PAGE

    @http("GET", "/invoice/<int:number>")
    def invoice(self, request, number):
        return 200, {"X-Total": "12"}, {"number": number}

    @http("POST", "/echo")
    def post(self, request):
        return request.get_data()

    @http("GET", "/stream")
    def stream(self, request):
        while True:
            yield "piece"
            gevent.sleep(0.01)

    @http("POST", "/report")
    def report(self, request):
        self.reported.set(request.get_json(force=True))
        return ""


@pytest.fixture(autouse=True)
def bound_on_time():
    """A browser takes its time to start on a busy machine."""
    with gevent.Timeout(120):
        yield


@pytest.fixture
def everything(serve, cluster_config, free_port):
    Everything.reported = AsyncResult()
    cors = {"origins": [f"http://127.0.0.1:{free_port}"], "headers": ["x-token"], "expose": ["x-total"]}
    address = f"127.0.0.1:{free_port}"
    return serve(Everything, **{**cluster_config, "WEB_SERVER_ADDRESS": address, "WEB_SERVER_CORS": cors, "max_workers": 50})


def test_a_page_in_a_browser(everything, tmp_path):
    with Browser(tmp_path) as browser:
        browser.open(f"http://{everything.address}/")
        try:
            report = Everything.reported.get(timeout=45)
        except gevent.Timeout:
            pytest.fail(f"the page did not report; the browser said: {browser.log[-3000:]}")

    # What it read first of an answer that never ends: one piece, or more on a busy machine.
    assert report.pop("first").startswith("piece")
    assert report == {
        "connected": "string",
        "added": 5,
        "unicode": "grüße 😀",
        "large": 300_000,
        "error": "LookupError",
        "many": True,
        "said": {"text": "hello"},
        "ticked": "number",
        "closed": 1000,
        "json": {"number": 7},
        "missing": 404,
        "posted": "some text",
        "crossed": {"number": 8},
        "total": "12",
        "refused": "refused",
    }


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_and_python_clients_at_the_same_time(everything, cluster_config):
    def call():
        with ClusterRpcProxy(cluster_config, timeout=10) as cluster:
            return cluster.everything.multiply(6, 7), cluster.everything.echo("nobody", text="over rpc")

    socket = everything.websocket()

    assert run(f"curl -s http://{everything.address}/invoice/7") == '{"number": 7}'
    assert run(f"curl -s -d hello http://{everything.address}/echo") == "hello"
    assert aside(call) == (42, "over rpc")
    assert socket.result("add", a=2, b=3) == 5
    assert socket.result("echo", text="over a socket") == "over a socket"
