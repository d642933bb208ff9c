"""How services listen: shared addresses, addresses that are taken, conflicts, stopping, killing."""

import errno
import logging
import os
import socket as native
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path

import gevent
import pytest
import zmq
from gevent.server import StreamServer

from tests.stage import Gate, until
from tests.web.stage import Web, is_refused, read_all
from zmqservices.containers import ServiceContainer
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import Entrypoint
from zmqservices.rpc import rpc
from zmqservices.runners import ServiceRunner, run_services
from zmqservices.web import listening
from zmqservices.web.guard import Guard
from zmqservices.web.handlers import HttpRequestHandler, http
from zmqservices.web.listening import FIRST_PAUSE
from zmqservices.web.server import BindAddress, WebServer, parse_address
from zmqservices.web.site import Site

ADDRESS = {"WEB_SERVER_ADDRESS": "127.0.0.1:0"}


def service(service_name, url, text="hello", method="GET"):
    class Service:
        name = service_name

        @http(method, url)
        def answer(self, request, **parameters):
            return text

    return Service


class Slow:
    name = "slow"
    gate = Gate()

    @http("GET", "/slow")
    def slow(self, request):
        self.gate()
        return "done"

    @http("GET", "/quick")
    def quick(self, request):
        return "quick"


@pytest.fixture(autouse=True)
def fresh_gate():
    Slow.gate = Gate()


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, address",
    [
        ("0.0.0.0:8000", ("0.0.0.0", 8000)),
        ("8000", ("", 8000)),
        (8000, ("", 8000)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8000", ("::1", 8000)),
        ("[::]:8000", ("::", 8000)),
        ("[fe80::1%eth0]:8000", ("fe80::1%eth0", 8000)),
        ("*:8000", ("*", 8000)),
    ],
)
def test_an_address_is_read(text, address):
    assert parse_address(text) == BindAddress(*address)


@pytest.mark.parametrize("text", ["", "host", "host:", ":80:80", "host:99999", "a b:-1", "::1:8000", None, True, 1.5, ["x"]])
def test_an_invalid_address_is_reported(text):
    with pytest.raises(ConfigurationError, match=r"WEB_SERVER_ADDRESS is .*; \[address:\]port is needed"):
        parse_address(text)


def test_a_bad_address_is_reported_when_the_service_starts():
    with pytest.raises(ConfigurationError, match="WEB_SERVER_ADDRESS is 'nonsense'"):
        ServiceContainer(service("a", "/"), {"WEB_SERVER_ADDRESS": "nonsense"}).start()


def test_every_address_of_this_machine(serve):
    web = serve(service("a", "/"), WEB_SERVER_ADDRESS="0")

    assert web.get("/").text == "hello"


def test_without_descriptors_it_accepts_after_a_pause_and_says_so_once(serve, monkeypatch, caplog, capfd):
    web = serve(service("a", "/"))
    tries = []
    accept = StreamServer.do_read

    def short_at_first(self):
        tries.append(self._pause)
        if len(tries) < 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    monkeypatch.setattr(StreamServer, "do_read", short_at_first)
    monkeypatch.setattr(listening, "_short", Guard(listening._log, "connections wait for descriptors", logging.WARNING))

    assert web.get("/").text == "hello"

    assert tries[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert [line for line in caplog.messages if "wait for descriptors" in line] == [caplog.messages[0]]
    assert "Traceback" not in capfd.readouterr().err


# --- several services, several processes -----------------------------------------------------------------------------


def test_semantic_52_services_of_one_runner_share_one_server():
    with run_services(ADDRESS, service("a", "/a", "from a"), service("b", "/b", "from b")) as runner:
        one, other = map(Web, runner.containers)

        assert one.address == other.address
        assert [one.get(path).text for path in ("/a", "/b") * 10] == ["from a", "from b"] * 10
        assert one.get("/c").status == 404
        one.close()

    assert Site._sites == {}
    assert is_refused(one.address)


def test_one_service_may_stop_and_the_other_serves_on(serve):
    one = serve(service("a", "/a"))
    other = serve(service("b", "/b"))
    assert one.address == other.address

    one.container.stop()

    assert other.get("/a").status == 404
    assert other.get("/b").text == "hello"


def test_a_killed_service_does_not_affect_the_other(serve):
    one, other = serve(Slow), serve(service("b", "/b"))
    asking = one.asking("GET", "/slow")
    Slow.gate.wait_for(1)

    one.container.kill()

    assert asking.get().status == 503
    assert other.get("/b").text == "hello"


def test_options_lists_the_methods_of_all_services(serve):
    one = serve(service("a", "/x", "got"))
    serve(service("b", "/x", "put", method="PUT"))

    assert one.ask("OPTIONS", "/x").headers["Allow"] == "GET, HEAD, OPTIONS, PUT"
    assert one.ask("PUT", "/x").text == "put"


@pytest.mark.parametrize("urls", [("/x", "/x"), ("/<a>", "/<b>"), ("/<int:a>/y", "/<int:number>/y")])
def test_two_services_with_one_route_are_refused_by_name(serve, urls):
    first = serve(service("a", urls[0]))

    with pytest.raises(ConfigurationError, match=f"b.answer and a.answer both answer GET '{urls[1]}'; one of them has to go"):
        serve(service("b", urls[1]))
    assert first.ask("GET", urls[0].replace("<int:a>", "1")).text == "hello"


def test_two_methods_with_one_route_are_refused_and_nothing_listens_afterwards(serve):
    class Twice(service("a", "/x")):
        @http("PUT,GET", "/x")
        def other(self, request):
            pass

    with pytest.raises(ConfigurationError, match=r"a.other and a.answer both answer GET '/x'"):
        serve(Twice)
    assert Site._sites == {}


def test_a_taken_address_is_reported(serve, free_port):
    with native.create_server(("127.0.0.1", free_port)):
        with pytest.raises(ConfigurationError) as told:
            serve(service("a", "/"), WEB_SERVER_ADDRESS=f"127.0.0.1:{free_port}")

    assert str(told.value) == (
        f"cannot listen at WEB_SERVER_ADDRESS 127.0.0.1:{free_port}: it is taken, most likely by another process; choose "
        "another port (0 is any free one), or set WEB_SERVER_REUSE_PORT: true for all processes that share it"
    )
    assert Site._sites == {}


def test_both_services_get_the_error_if_their_address_is_taken(free_port):
    config = {"WEB_SERVER_ADDRESS": f"127.0.0.1:{free_port}"}
    runner = ServiceRunner(config)
    runner.add_service(service("a", "/a"))
    runner.add_service(service("b", "/b"))

    with native.create_server(("127.0.0.1", free_port)):
        with pytest.raises(ConfigurationError, match="it is taken"):
            runner.start()
    runner.kill()


def test_processes_may_share_an_address_if_both_ask_for_it(serve, free_port):
    program = (
        "import socket, sys; sock = socket.socket(); sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); "
        f"sock.bind(('127.0.0.1', {free_port})); sock.listen(); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"up\n"

        web = serve(service("a", "/"), WEB_SERVER_ADDRESS=f"127.0.0.1:{free_port}", WEB_SERVER_REUSE_PORT=True)

        assert web.address.port == free_port
        other.stdin.close()


def test_servers_of_two_makes_cannot_share_an_address(serve):
    class Server(WebServer):
        def get_wsgi_server(self, sock, wsgi_app, **options):
            return super().get_wsgi_server(sock, wsgi_app, **options)

    class Handler(HttpRequestHandler):
        server = Server()

    class Other:
        name = "other"

        @Handler.decorator("GET", "/other")
        def get(self, request):
            return ""

    serve(service("a", "/a"))

    with pytest.raises(ConfigurationError, match="other and a share 127.0.0.1:0, and their classes of web server make different"):
        serve(Other)


# --- stopping --------------------------------------------------------------------------------------------------------


def test_semantic_51_a_request_that_runs_is_answered_and_new_ones_are_refused(serve):
    web = serve(Slow)
    asking = web.asking("GET", "/slow")
    Slow.gate.wait_for(1)
    busy = web.connect()
    idle = web.connect()
    assert [one.ask("GET", "/quick").status for one in (busy, idle)] == [200, 200]

    stopping = gevent.spawn(web.container.stop)
    until(lambda: is_refused(web.address))
    with pytest.raises((HTTPException, OSError)):
        idle.ask("GET", "/quick")
    assert not stopping.ready()
    Slow.gate.open()
    answer = asking.get()
    stopping.get(timeout=30)

    assert (answer.text, answer.headers["Connection"]) == ("done", "close")


def test_semantic_51_a_stopping_service_beside_a_running_one_answers_503(serve):
    web = serve(Slow)
    serve(service("b", "/b"))
    asking = web.asking("GET", "/slow")
    Slow.gate.wait_for(1)

    stopping = gevent.spawn(web.container.stop)
    until(lambda: web.server.is_draining)
    refused = web.get("/quick")
    Slow.gate.open()
    stopping.get(timeout=30)

    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert asking.get().text == "done"


def test_a_request_that_does_not_end_is_cancelled_after_the_drain_timeout(serve):
    web = serve(Slow, drain_timeout=0.05)
    asking = web.asking("GET", "/slow")
    Slow.gate.wait_for(1)

    web.container.stop()

    assert asking.get().status == 503
    assert Slow.gate.ended == ["WorkerCancelled"]


def test_a_body_that_does_not_end_is_broken_off_after_the_drain_timeout(serve):
    ended = []

    class Endless:
        name = "endless"

        @http("GET", "/")
        def get(self, request):
            try:
                while True:
                    yield "more"
                    gevent.sleep(0.01)
            finally:
                ended.append("closed")

    web = serve(Endless, drain_timeout=0.1)
    sock = web.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert sock.recv(10)

    web.container.stop()

    assert ended == ["closed"]
    assert not read_all(sock).endswith(b"0\r\n\r\n")


def test_killing_ends_everything_at_once(serve):
    web = serve(Slow)
    sock = web.raw(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    Slow.gate.wait_for(1)

    web.container.kill()

    assert read_all(sock).split(b"\r\n")[0] in (b"", b"HTTP/1.1 503 SERVICE UNAVAILABLE")
    assert Slow.gate.ended == ["GreenletExit"]
    assert is_refused(web.address)
    assert Site._sites == {}


def test_a_service_may_start_again_at_the_same_address(serve, free_port):
    address = f"127.0.0.1:{free_port}"
    for _ in range(3):
        web = serve(service("a", "/"), WEB_SERVER_ADDRESS=address)
        assert web.get("/").text == "hello"
        web.container.stop()


def test_a_new_service_may_follow_a_stopped_one_at_once(serve, free_port):
    address = f"127.0.0.1:{free_port}"
    old = serve(Slow, WEB_SERVER_ADDRESS=address)
    asking = old.asking("GET", "/slow")
    Slow.gate.wait_for(1)
    stopping = gevent.spawn(old.container.stop)
    until(lambda: is_refused(old.address))

    new = serve(service("a", "/"), WEB_SERVER_ADDRESS=address)

    assert new.get("/").text == "hello"
    Slow.gate.open()
    assert asking.get().text == "done"
    stopping.get(timeout=30)


# --- what is not there -----------------------------------------------------------------------------------------------


def test_a_service_with_nothing_but_http_opens_no_zeromq_socket(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a ZeroMQ context was made")

    monkeypatch.setattr(zmq, "Context", refuse)
    with run_services(ADDRESS, service("a", "/")) as runner:
        (container,) = runner.containers
        web = Web(container)
        assert web.get("/").text == "hello"


def test_a_service_without_http_opens_no_port():
    class Quiet:
        name = "quiet"
        hub = WebServer

        @Entrypoint.decorator
        def nothing(self):
            pass

    with run_services(ADDRESS, Quiet):
        assert Site._sites == {}


@pytest.mark.parametrize("module", ["zmqservices", "zmqservices.rpc", "zmqservices.timer", "zmqservices.cli.main"])
def test_modules_without_http_do_not_import_the_web_server(module):
    program = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('werkzeug', 'wsproto', 'gevent.pywsgi')))"

    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2]).returncode == 0


def test_calls_and_requests_are_served_at_the_same_time(serve, tmp_path):
    class Both(service("both", "/")):
        @rpc
        def hello(self):
            return "hello"

    web = serve(Both, DIRECTORY="tcp://127.0.0.1:9", DIRECTORY_CACHE="none")

    assert web.get("/").text == "hello"
