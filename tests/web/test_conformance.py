"""HTTP/1.1 as specified by RFC 9112, over a socket: the table of cases, and the framing of answers."""

import io
from http.client import HTTPResponse

import pytest
from gevent.event import Event
from werkzeug.wrappers import Response

from tests.web.rfc9112 import CASES, NEXT
from tests.web.stage import Web, read_all
from zmqservices.containers import ServiceContainer
from zmqservices.web import reading
from zmqservices.web.handlers import HttpRequestHandler, http
from zmqservices.web.server import WebServer

LAST = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Target:
    name = "target"

    @http("GET,POST", "/")
    def root(self, request):
        return request.get_data()

    @http("GET", "/where")
    def where(self, request):
        return {"url": request.url, "host": request.environ["HTTP_HOST"]}

    @http("GET", "/next")
    def next(self, request):
        return NEXT, ""


class Received(io.BytesIO):
    """Answers as http.client takes them: several from one place."""

    def makefile(self, mode):
        return self

    def close(self):
        pass


def answers(data, method="GET"):
    """The answers in what a server sent, each read to its end; nothing may be left."""
    received, found = Received(data), []
    while received.tell() < len(data):
        if data.startswith(b"HTTP/1.1 100 ", received.tell()):
            assert data.startswith(b"HTTP/1.1 100 Continue\r\n\r\n", received.tell())
            received.seek(25, io.SEEK_CUR)
            found.append((100, None, b""))
            continue
        response = HTTPResponse(received, method=method if not [one for one in found if one[0] != 100] else "GET")
        response.begin()
        found.append((response.status, response.headers, response.read()))
    return found


def exchange(web, data, method="GET"):
    return answers(read_all(web.raw(data)), method)


@pytest.fixture(scope="module")
def target():
    """One service for all cases: none of them may hurt those after it."""
    # At 127.0.0.1:0 it would share the server of others.
    container = ServiceContainer(Target, {"WEB_SERVER_ADDRESS": "localhost:0", "WEB_SERVER_MAX_BODY": 1000})
    container.start()
    yield Web(container)
    container.kill()


@pytest.fixture
def web(target, monkeypatch):
    monkeypatch.setattr(reading, "LINGER", 0.01)
    yield target
    target.close()


@pytest.mark.parametrize("section, what, data, expected", CASES, ids=[f"{case[0]}: {case[1]}" for case in CASES])
def test_a_request(web, section, what, data, expected, capfd, caplog):
    method = data.split(b" ", 1)[0].decode("latin-1")

    found = exchange(web, data + LAST, method)

    assert [status for status, _, _ in found] == expected
    for _status, headers, _ in found:
        assert headers is None or headers["Date"]
    if expected[-1] != NEXT:
        assert found[-1][1]["Connection"] == "close"
    assert "Traceback" not in capfd.readouterr().err
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_no_case_is_listed_twice():
    assert len({(case[0], case[1]) for case in CASES}) == len(CASES)
    assert len({case[2] for case in CASES}) == len(CASES)


def test_an_absolute_url_as_target_names_the_host(web):
    found = exchange(web, b"GET http://other:81/where?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert b'{"url": "http://other:81/where?x=1", "host": "other:81"}' in found[0][2]


def test_options_of_the_whole_server_lists_all_methods(web):
    (status, headers, body), _ = exchange(web, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" + LAST, "OPTIONS")

    assert (status, headers["Allow"], body) == (204, "GET, HEAD, OPTIONS, POST", b"")


def test_a_refusal_gives_the_reason_with_a_short_quote(web):
    found = exchange(web, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X" * 5000 + b"\r\n\r\n")

    status, headers, body = found[0]
    assert status == 400
    assert body.startswith(b"Error: 'XXX") and body.endswith(b"is no header line\n") and len(body) < 200


@pytest.mark.parametrize("wish, said", [(b"close", "close"), (b"keep-alive", None)])
def test_an_answer_says_whether_the_connection_stays(web, wish, said):
    found = exchange(web, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + wish + b"\r\n\r\n" + LAST)

    assert found[0][1]["Connection"] == said


def test_an_answer_to_http_1_0_says_that_the_connection_stays(web):
    found = exchange(web, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + LAST)

    assert found[0][1]["Connection"] == "keep-alive"


def test_a_request_byte_by_byte_is_the_same_request(web):
    sock = web.raw()
    for byte in b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n" + LAST:
        sock.sendall(bytes([byte]))

    assert [(status, body) for status, _, body in answers(read_all(sock))] == [(200, b"abc"), (NEXT, b"")]


def test_a_100_continue_is_never_sent_inside_an_answer(serve):
    has_begun = Event()

    class Eager:
        name = "eager"

        @http("POST", "/")
        def post(self, request):
            yield "begun "
            has_begun.wait()
            yield request.get_data()

    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n\r\n"
    sock = serve(Eager).raw(head)
    received = b""
    while b"begun " not in received:
        received += sock.recv(1000)
    has_begun.set()
    sock.sendall(bytes(2_000_000))

    assert [status for status, _, _ in answers(received + read_all(sock))] == [200]


def test_header_lines_of_one_name_are_one_list(serve):
    class Told:
        name = "told"

        @http("GET", "/")
        def get(self, request):
            environ = request.environ
            return {key: environ.get(key) for key in ("HTTP_X", "HTTP_COOKIE", "HTTP_X_Y", "HTTP_PROXY", "CONTENT_TYPE")}

    lines = b"X: a\r\nX: b\r\nCookie: c\r\nCookie: d\r\nX_Y: e\r\nProxy: f\r\nContent-Type: g\r\n"
    found = exchange(serve(Told), b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + lines + b"\r\n")

    expected = b'{"HTTP_X": "a,b", "HTTP_COOKIE": "c; d", "HTTP_X_Y": null, "HTTP_PROXY": null, "CONTENT_TYPE": "g"}'
    assert found[0][2] == expected


def test_an_application_reads_native_text_from_a_request(serve):
    seen = {}

    class Told:
        name = "told"

        @http("GET", "/<path:rest>")
        def get(self, request, rest):
            seen.update({key: value for key, value in request.environ.items() if key.isupper()}, url=request.url)
            return ""

    serve(Told).get("/caf%C3%A9?q=caf%C3%A9&x=1", **{"X-Name": "y"})

    assert {key: type(value) for key, value in seen.items() if type(value) is not str} == {}
    assert seen["QUERY_STRING"] == "q=caf%C3%A9&x=1"
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/caf\u00e9"
    assert (seen["HTTP_X_NAME"], seen["SERVER_PROTOCOL"]) == ("y", "HTTP/1.1")


# --- what methods say of their answers ------------------------------------------------------------------------------

ANSWERS = [
    ("a length that fits", (200, {"Content-Length": "3"}, "abc"), [200, NEXT]),
    ("a length that is too small", (200, {"Content-Length": "2"}, "abc"), [500, NEXT]),
    ("a length that is too large", (200, {"Content-Length": "4"}, "abc"), [500, NEXT]),
    ("a length that is no number", (200, {"Content-Length": "many"}, "abc"), [500, NEXT]),
    ("two lengths", (200, [("Content-Length", "3"), ("content-length", "4")], "abc"), [500, NEXT]),
    ("chunked", (200, {"Transfer-Encoding": "chunked"}, "abc"), [500, NEXT]),
    ("chunked, after all", (200, {"transfer-encoding": "identity"}, "abc"), [500, NEXT]),
    ("a value outside latin-1", (200, {"X": "\u20ac"}, "abc"), [500, NEXT]),
    ("a value with a line end", (200, {"X": "a\r\nSet-Cookie: b"}, "abc"), [500, NEXT]),
    ("a value with a NUL", (200, {"X": "a\0"}, "abc"), [500, NEXT]),
    ("a name with a line end", (200, {"X\r\nSet-Cookie": "b"}, "abc"), [500, NEXT]),
    ("a name with a space", (200, {"X y": "b"}, "abc"), [500, NEXT]),
    ("a Response with a line end in its status", Response("abc", status="200 OK\r\nX: y"), [500, NEXT]),
    ("a Response that is no answer yet", Response("abc", status=102), [500, NEXT]),
    ("a Response that switches protocols", Response("abc", status=101), [500, NEXT]),
    ("a value in latin-1", (200, {"X": "\u00e4"}, "abc"), [200, NEXT]),
    ("close", (200, {"Connection": "close"}, "abc"), [200]),
    ("keep-alive", (200, {"Connection": "keep-alive"}, "abc"), [200, NEXT]),
    ("204 with a body", (204, "abc"), [204, NEXT]),
    ("304 with a body", (304, "abc"), [304, NEXT]),
    ("204 with a length", (204, {"Content-Length": "3"}, "abc"), [204, NEXT]),
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("what, result, expected", ANSWERS, ids=[case[0] for case in ANSWERS])
def test_an_answer(serve, method, what, result, expected, caplog):
    class Answering(Target):
        @http("GET", "/answer")
        def answer(self, request):
            return result

    web = serve(Answering)
    found = exchange(web, method.encode() + b" /answer HTTP/1.1\r\nHost: a\r\n\r\n" + LAST, method)

    assert [status for status, _, _ in found] == expected
    assert "Set-Cookie" not in found[0][1]
    if expected[0] == 500 and method == "GET":
        assert found[0][2] == b"Error: Internal Server Error\n"
        assert "could not be sent" in caplog.text


@pytest.mark.parametrize("said, pieces", [("5", ["abc"]), ("2", ["abc"]), ("2", ["a", "b", "c"])])
def test_a_streamed_body_of_another_length_than_announced_ends_the_connection(serve, said, pieces, caplog):
    class Streaming(Target):
        @http("GET", "/stream")
        def stream(self, request):
            return 200, {"Content-Length": said}, iter(pieces)

    data = read_all(serve(Streaming).raw(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n" + LAST))

    assert str(NEXT).encode() not in data
    assert b"abc" not in data or said == "5"
    assert "Content-Length says" in caplog.text


def test_a_streamed_body_of_the_announced_length(serve):
    class Streaming(Target):
        @http("GET", "/stream")
        def stream(self, request):
            return 200, {"Content-Length": "3"}, iter(["a", "bc"])

    found = exchange(serve(Streaming), b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n" + LAST)

    assert [(status, body) for status, _, body in found] == [(200, b"abc"), (NEXT, b"")]
    assert "Transfer-Encoding" not in found[0][1]


def test_invalid_headers_of_middleware_are_not_sent_either(serve, caplog):
    class Server(WebServer):
        def get_wsgi_app(self):
            inner = super().get_wsgi_app()

            def app(environ, start_response):
                if environ["PATH_INFO"] != "/bad":
                    return inner(environ, start_response)
                start_response("200 OK", [("X", "a\r\nY: b")])
                return [b""]

            return app

    class Handler(HttpRequestHandler):
        server = Server()

    class Service:
        name = "service"

        @Handler.decorator("GET", "/")
        def get(self, request):
            return "hello"

    web = serve(Service)
    found = exchange(web, b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")

    assert found[0][0] == 500 and "Y" not in found[0][1]
    assert web.get("/").text == "hello"
    assert "the header 'X' is 'a\\r\\nY: b'" in caplog.text
