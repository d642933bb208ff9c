"""Bad requests to a web server: each gets a clear answer or none, and the server serves on."""

import logging
import socket as native

import gevent
import pytest

from tests.stage import until
from tests.web.stage import read_all
from zmqservices.exceptions import ConfigurationError
from zmqservices.web import protocol, reading
from zmqservices.web.guard import Guard, RateLimit
from zmqservices.web.handlers import http


class Echo:
    name = "echo"

    @http("GET", "/")
    def get(self, request):
        return "hello"

    @http("POST", "/")
    def post(self, request):
        return request.get_data()

    @http("POST", "/json")
    def json(self, request):
        return request.get_json()

    @http("POST", "/ignored")
    def ignore(self, request):
        return "ignored"


@pytest.fixture
def web(serve, monkeypatch):
    """A service that takes bodies of 1000 bytes at most, and still serves when the test is over."""
    monkeypatch.setattr(reading, "LINGER", 0.05)  # What is left of a request need not be waited for here.
    web = serve(Echo, WEB_SERVER_MAX_BODY=1000)
    yield web
    assert web.get("/").text == "hello"
    until(lambda: all(handler.is_idle for handler in server_of(web).connections))
    assert web.server._answering == set()


def server_of(web):
    return web.server._site._server


def status_line(web, data):
    return read_all(web.raw(data)).split(b"\r\n")[0].decode()


def test_text_of_a_client_does_not_move_the_cursor_in_the_log(web, caplog):
    caplog.set_level(logging.INFO)

    status_line(web, b"GET /\x1b[2J HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert "\x1b" not in caplog.text
    assert "\\x1b[2J" in caplog.text


def test_a_body_that_is_too_large(web):
    answer = web.ask("POST", "/", b"x" * 1001)

    assert answer.status == 413
    assert "1001 bytes; 1000 are allowed" in answer.text


def test_a_body_with_too_large_a_content_length_is_never_read(web):
    connection = web.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\nExpect: 100-continue\r\n\r\n")

    assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_a_refused_body_still_gets_the_answer(web, monkeypatch):
    monkeypatch.setattr(reading, "LINGER", 1.0)
    connection = web.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n")
    connection.sendall(bytes(20_000_000))

    assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_the_wait_for_the_rest_of_a_body_is_bounded(web, monkeypatch):
    monkeypatch.setattr(reading, "LINGER", 0.05)
    connection = web.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\nsome of it")

    assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_a_body_in_chunks_that_becomes_too_large(web):
    chunk = b"200\r\n" + bytes(0x200) + b"\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = read_all(web.raw(head + chunk * 3 + b"0\r\n\r\n"))

    assert data.startswith(b"HTTP/1.1 413 ")


def test_an_unread_body_is_not_taken_for_the_next_request(web):
    body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    connection = web.connect()

    first = connection.ask("POST", "/ignored", iter([body]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    second = connection.ask("GET", "/")

    assert [first.text, second.text] == ["ignored", "hello"]


def test_malformed_json(web):
    answer = web.ask("POST", "/json", "{", {"Content-Type": "application/json"})

    assert answer.status == 400
    assert web.ask("POST", "/json", "x").status == 415


def test_a_client_that_disconnects_in_the_middle_of_its_request(web, capfd, caplog):
    web.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf of").close()
    web.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Le").close()
    web.raw(b"").close()
    until(lambda: not server_of(web).connections)

    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_a_client_that_disconnects_during_the_answer(web, capfd, caplog):
    sock = web.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
    sock.setsockopt(native.SOL_SOCKET, native.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    sock.close()
    until(lambda: not server_of(web).connections)

    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_a_slow_client_holds_no_worker(serve):
    web = serve(Echo, max_workers=1)
    slow = [web.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\n123") for _ in range(3)]

    assert web.get("/").text == "hello"
    for sock in slow:
        sock.sendall(b"4567890")
    assert all(read_all(sock).endswith(b"1234567890") for sock in slow)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: o",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
def test_a_client_that_falls_silent_is_closed(serve, data, capfd, caplog):
    web = serve(Echo, WEB_SERVER_IDLE_TIMEOUT=0.05)

    answer = read_all(web.raw(data))

    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert "Traceback" not in capfd.readouterr().err + caplog.text


@pytest.mark.parametrize(
    "beginning, drip",
    [
        (b"", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n", b"x" * 10_000),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
        (b"POST /ignored HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
    ],
)
def test_a_client_that_sends_byte_by_byte_is_cut_and_others_are_not(serve, beginning, drip, monkeypatch):
    monkeypatch.setattr(reading, "GRACE", 0.1)
    monkeypatch.setattr(reading, "LINGER", 0.1)
    web = serve(Echo, WEB_SERVER_HEADER_TIMEOUT=0.1)
    sock = web.raw(beginning)
    answer = gevent.spawn(read_all, sock)

    with pytest.raises(OSError):
        for byte in drip:
            sock.sendall(bytes([byte]))
            gevent.sleep(0.01)

    assert answer.get().startswith(b"HTTP/1.1 200 " if b"ignored" in beginning else b"HTTP/1.1 408 ")
    assert web.get("/").text == "hello"
    until(lambda: not server_of(web).connections)


def test_refused_requests_are_a_line_a_minute_that_names_a_client(serve, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "zmqservices.web.protocol")
    monkeypatch.setattr(protocol, "_refused", Guard(protocol._log, "refused a malformed request"))
    web = serve(Echo)

    for _ in range(20):
        assert read_all(web.raw(b"GET /\r\n\r\n")).startswith(b"HTTP/1.1 400 ")

    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert lines == ["refused a malformed request (127.0.0.1): 'GET /\\r\\n' is no request line"]


def test_refused_requests_do_not_fill_the_access_log(serve, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "zmqservices.web.access")
    monkeypatch.setattr(protocol, "_refusals_logged", RateLimit(3))
    monkeypatch.setattr(protocol, "monotonic", lambda: 7.0)
    web = serve(Echo)

    for _ in range(5):
        assert read_all(web.raw(b"GET /\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert web.get("/").text == "hello"

    lines = [record.getMessage() for record in caplog.records if record.name == "zmqservices.web.access"]
    assert [" 400 " in line for line in lines] == [True] * 3 + [False]


def test_an_error_of_one_connection_breaks_no_other(serve, caplog, monkeypatch):
    monkeypatch.setattr(protocol, "_broken", Guard(protocol._log, "a connection broke", logging.ERROR))
    web = serve(Echo)
    with monkeypatch.context() as patch:
        patch.setattr(protocol.HttpOnlyProtocol, "_read_request", lambda self: 1 // 0)
        assert read_all(web.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")) == b""

    assert web.get("/").text == "hello"
    assert "a connection broke (127.0.0.1): integer division" in caplog.text


def test_a_thousand_idle_connections_do_not_stop_requests(serve):
    web = serve(Echo)
    idle = [web.raw() for _ in range(1000)]
    until(lambda: len(server_of(web).connections) == 1000)

    assert web.get("/").text == "hello"
    web.container.stop()

    assert all(sock.recv(1) == b"" for sock in idle)


def test_more_requests_than_may_wait_are_refused(serve):
    class Slow(Echo):
        @http("GET", "/slow")
        def slow(self, request):
            gevent.sleep(1000)

    web = serve(Slow, max_workers=1, max_queued_calls=2)
    asking = [web.asking("GET", "/slow") for _ in range(3)]
    until(lambda: web.container.queued == 2)

    assert web.get("/").status == 503
    web.container.kill()
    gevent.joinall(asking)


def test_headers_have_limits_that_are_settings(serve, monkeypatch):
    monkeypatch.setattr(reading, "LINGER", 0.05)
    web = serve(Echo, WEB_SERVER_MAX_HEADERS=3, WEB_SERVER_MAX_HEADERS_SIZE=200)

    assert web.get("/", A="1").status == 200
    for headers in ({"A": "1", "B": "2"}, {"A": "x" * 200}):
        refused = web.get("/", **headers)
        assert (refused.status, "more than 200 bytes or 3 lines of headers" in refused.text) == (431, True)


def test_connections_beyond_the_limit_are_refused_with_a_reason(serve, monkeypatch, caplog):
    monkeypatch.setattr(reading, "LINGER", 0.05)
    web = serve(Echo, WEB_SERVER_MAX_CONNECTIONS=1)
    first = web.connect()
    assert first.ask("GET", "/").status == 200

    answer = read_all(web.raw())
    assert answer.startswith(b"HTTP/1.1 503 ") and b"1 connections, which is the WEB_SERVER_MAX_CONNECTIONS" in answer
    assert "turned a connection away (127.0.0.1): there are 1 connections" in caplog.text
    assert first.ask("GET", "/").status == 200

    first.close()
    until(lambda: not server_of(web).connections)
    assert web.get("/").status == 200


@pytest.mark.parametrize("name", ["WEB_SERVER_MAX_HEADERS", "WEB_SERVER_MAX_HEADERS_SIZE", "WEB_SERVER_MAX_CONNECTIONS"])
def test_a_wrong_limit_is_reported_before_anything_starts(serve, name):
    with pytest.raises(ConfigurationError, match=f"{name} is 'many'; a whole number is needed"):
        serve(Echo, **{name: "many"})
