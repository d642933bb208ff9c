"""Messages of a hostile WebSocket or HTTP client affect that client only."""

import json
import logging
import random

import pytest

from tests.stage import until
from tests.web.sockets import Closed
from zmqservices.web.handlers import http
from zmqservices.web.websocket import rpc, transport
from zmqservices.web.websocket import server as websocket_server
from zmqservices.web.websocket.connection import MOST_FAULTS
from zmqservices.web.websocket.server import WebSocketServer


class Service:
    name = "service"

    @rpc
    def hi(self, socket_id, **data):
        return "hi"

    @rpc
    def echo(self, socket_id, value):
        return value

    @rpc(expected_exceptions=ValueError)
    def fail(self, socket_id):
        loop = {}
        loop["loop"] = loop
        raise ValueError(loop, float("inf"))

    @http("POST", "/json")
    def json(self, request):
        return {"got": request.get_json()}


@pytest.fixture
def web(serve):
    """A service that still serves when the test is over."""
    web = serve(Service)
    yield web
    assert web.websocket().result("hi") == "hi"
    assert not web.container._died.ready()


MESSAGES = [
    '{"method": "hi", "data": {}, "correlation_id": 1e999}',
    '{"method": "hi", "data": {}, "correlation_id": -1e999}',
    '{"method": "hi", "data": {}, "correlation_id": NaN}',
    '{"method": "echo", "data": {"value": 1e999}, "correlation_id": 1}',
    '{"method": "hi", "data": {}, "correlation_id": ' + "[" * 900 + "]" * 900 + "}",
    '{"method": "hi", "data": {}, "correlation_id": ' + "[" * 9000 + "]" * 9000 + "}",
    '{"method": "echo", "data": {"value": ' + '{"a":' * 900 + "1" + "}" * 900 + '}, "correlation_id": 1}',
    '{"method": "hi", "data": {}, "correlation_id": ' + "9" * 5000 + "}",
    '{"method": ["hi"], "data": {}, "correlation_id": {"a": [1]}}',
    '{"method": "' + "x" * 500_000 + '", "data": {}, "correlation_id": 1}',
    '{"method": "echo", "data": {"' + "x" * 500_000 + '": 1}, "correlation_id": 1}',
    '{"method": "echo", "data": {"self": 1, "socket_id": 2, "value": 3}, "correlation_id": 1}',
    '{"method": "handle_message", "data": {}, "correlation_id": 1}',
    '{"method": "__init__", "data": {}, "correlation_id": 1}',
    '{"method": "\\ud800", "data": {}, "correlation_id": "\\ud800"}',
    '{"method": "fail", "data": {}, "correlation_id": 1}',
    "[]", "1", "null", '"hi"', "{}", "", "\0", "{" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", MESSAGES, ids=lambda text: text[:60])
def test_a_message_is_answered_with_an_error_and_the_connection_goes_on(web, text):
    socket = web.websocket()

    socket.send_text(text)

    answer = socket.receive()
    assert answer["success"] is False
    assert len(json.dumps(answer)) < 5000
    assert socket.result("echo", value=[1.5, "x"]) == [1.5, "x"]


def test_a_connection_is_closed_after_too_many_messages_that_are_no_calls(web, monkeypatch):
    monkeypatch.setattr(websocket_server, "monotonic", lambda: 7.0)
    socket, other = web.websocket(), web.websocket()

    for _ in range(MOST_FAULTS + 9):
        socket.send_text("{}")

    for _ in range(MOST_FAULTS + 1):
        assert socket.receive()["success"] is False
    with pytest.raises(Closed) as closed:
        socket.receive()
    assert (closed.value.code, closed.value.reason) == (1008, "more than 20 messages within a second were no calls")
    assert other.result("hi") == "hi"


def test_correlation_ids_that_are_not_text_are_sent_back_unchanged(web):
    socket = web.websocket()
    for correlation_id in (0, 1.5, True, [1, [2]], {"a": None}, "\u20ac", 9**900):
        socket.send_text(json.dumps({"method": "hi", "data": {}, "correlation_id": correlation_id}))

    assert [socket.receive()["correlation_id"] for _ in range(7)] == [0, 1.5, True, [1, [2]], {"a": None}, "\u20ac", 9**900]


def test_random_frames_end_their_connection_at_most(web, caplog, capfd):
    rnd = random.Random(9112)
    for _ in range(40):
        socket = web.websocket()
        socket.sock.sendall(b"".join(rnd.randbytes(rnd.randint(1, 40)) for _ in range(rnd.randint(1, 4))))
        socket.close()
    hub = next(one for one in web.container.extensions if isinstance(one, WebSocketServer))
    until(lambda: not hub.connections)

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert "Traceback" not in capfd.readouterr().err


def test_invalid_messages_are_logged_once_a_minute_with_a_client(web, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "zmqservices.web.websocket.server")
    fresh = websocket_server.Guard(websocket_server._log, "refused a message that is no call")
    monkeypatch.setattr(websocket_server, "_refused", fresh)
    socket = web.websocket()
    for _ in range(MOST_FAULTS):
        socket.send_text("\x1b[2J\nforged")
        assert not socket.receive()["success"]

    lines = [message for message in caplog.messages if "refused" in message]
    assert len(lines) == 1 and "127.0.0.1" in lines[0]
    assert fresh.count == MOST_FAULTS


def test_an_internal_error_only_ends_its_connection(web, caplog, monkeypatch):
    socket, other = web.websocket(), web.websocket()
    with monkeypatch.context() as patch:
        patch.setattr(websocket_server, "_broken", websocket_server.Guard(websocket_server._log, "broke", logging.ERROR))
        patch.setattr(transport, "_text", lambda parts: 1 // 0)
        socket.send_text("{}")
        with pytest.raises(Closed) as closed:
            socket.receive()

    assert closed.value.code == 1011
    assert "broke (<WebSocket" in caplog.text
    assert other.result("hi") == "hi"


def test_an_answer_that_cannot_be_sent_does_not_affect_the_service(web, monkeypatch):
    socket = web.websocket()
    socket.send("hi")
    with monkeypatch.context() as patch:
        patch.setattr(transport.WSConnection, "send", lambda self, event: 1 // 0)
        with pytest.raises(Closed):
            socket.receive()


@pytest.mark.parametrize("body", ["1e999", "[" * 900 + "]" * 900, "[" * 90_000 + "]" * 90_000, "9" * 5000, "{", "\0"])
def test_invalid_json_of_a_request_is_the_clients_mistake(web, body, caplog):
    answer = web.ask("POST", "/json", body, {"Content-Type": "application/json"})

    assert answer.status == 400
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert web.ask("POST", "/json", "[1]", {"Content-Type": "application/json"}).json == {"got": [1]}


@pytest.mark.parametrize(
    "version, lines, status",
    [
        (b"HTTP/1.1", b"Content-Length: 3\r\n", 400),
        (b"HTTP/1.1", b"Transfer-Encoding: chunked\r\n", 400),
        (b"HTTP/1.0", b"", 426),
    ],
)
def test_an_invalid_handshake(web, version, lines, status):
    shake = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n"
    sock = web.raw(b"GET /ws " + version + b"\r\nHost: a\r\n" + shake + lines + b"\r\nabc")

    assert sock.recv(1000).split(b" ")[1] == str(status).encode()
