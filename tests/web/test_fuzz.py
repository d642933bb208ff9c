"""Random requests over sockets: none of them causes an internal error."""

import random

import pytest
from gevent import socket

from tests.web.stage import read_all
from tests.web.test_conformance import answers
from zmqservices.web import reading
from zmqservices.web.handlers import http

METHODS = [
    b"GET", b"POST", b"OPTIONS", b"HEAD", b"DELETE", b"BREW",
]  # fmt: skip
TARGETS = [
    b"/", b"/json", b"*", b"/%00", b"/%", b"/%zz", b"/%ff%fe", b"/\xff\xfe", b"//", b"//evil/..", b"/?%ff=%00&&=",
    b"/x/%2e%2e/", b"/?a[]=1;b", b"http://h/", b"http://[::1/", b"http://xn--/", b"http://%zz/", b"http://a..b/",
    b"http://" + b"a", b"/", b"/\\", b"/<int:x>",
]  # fmt: skip
HOSTS = [
    b"h", b"", b"[::1]", b"[::", b"a..b", b".", b"xn--", b"xn--\xff", b"%zz", b"a" * 64, b"a" * 300, b"h:99999", b"h:",
    b":80", b"h_", b"-", b"1",
]  # fmt: skip
LINES = [
    b"Content-Type: application/json", b"Content-Type: multipart/form-data; boundary=",
    b"Content-Type: multipart/form-data; boundary=x", b"Content-Type: \xff;charset=\xff",
    b"Content-Type: application/x-www-form-urlencoded; charset=nope", b"Content-Length: 4",
    b"Transfer-Encoding: chunked", b"Accept: \xff;q=x, */*;q=9999, application/json", b"Accept: " + b"a/b,",
    b"Cookie: a=\xff; =; ;;\"", b"Authorization: Basic \xff", b"Authorization: Digest x", b"Range: bytes=99-1",
    b"If-Match: \"", b"If-Modified-Since: Fri", b"Date: \xff", b"Origin: null", b"Access-Control-Request-Method: \xff",
    b"Upgrade: websocket", b"Connection: upgrade", b"Connection: close, ,", b"Sec-WebSocket-Version: 99",
    b"Sec-WebSocket-Key: \xff", b"X-Forwarded-For: \xff", b"Expect: 100-continue", b"User-Agent:",
    b"Sec-WebSocket-Extensions: ;;,=", b"Sec-WebSocket-Protocol: ,", b"Content-Encoding: gzip", b"Forwarded: ;;=",
    b"Cache-Control: ,=,",
]  # fmt: skip


class Target:
    name = "target"

    @http("GET,POST", "/")
    def root(self, request):
        read = (request.url, request.args, request.form, request.cookies, request.authorization, request.range, request.path)
        return repr((read, request.if_modified_since, request.if_match, request.files, request.accept_languages))

    @http("POST", "/json")
    def json(self, request):
        return {"got": request.get_json()}


class Other:
    name = "other"

    @http("GET", "/<path:rest>")
    def get(self, request, rest):
        return rest


@pytest.mark.parametrize("seed", range(4))
def test_a_request_at_random(serve, monkeypatch, caplog, capfd, seed):
    monkeypatch.setattr(reading, "LINGER", 0.02)
    monkeypatch.setattr(reading, "GRACE", 0.05)
    limits = {"WEB_SERVER_HEADER_TIMEOUT": 0.2, "WEB_SERVER_IDLE_TIMEOUT": 0.2, "WEB_SERVER_CORS": {"origins": ["http://shop"]}}
    web = serve(Target, **limits)
    if seed % 2:
        serve(Other, **limits)
    rnd = random.Random(seed)

    for _ in range(60):
        lines = rnd.sample(LINES, rnd.randint(0, 5))
        data = rnd.choice(METHODS) + b" " + rnd.choice(TARGETS) + b" HTTP/1.1\r\nHost: " + rnd.choice(HOSTS) + b"\r\n"
        data += b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        data += rnd.choice([b"", b"{}\r\n", b"4\r\n{}  \r\n0\r\n\r\n", rnd.randbytes(9)])
        sock = web.raw(data)
        sock.shutdown(socket.SHUT_WR)
        for status, _headers, _body in answers(read_all(sock), data.split(b" ")[0].decode()):
            assert status < 500 or status in (501, 505), data
    errors = [record.getMessage() + str(record.exc_info) for record in caplog.records if record.levelname == "ERROR"]

    assert errors == []
    assert "Traceback" not in capfd.readouterr().err
