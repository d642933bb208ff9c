"""The WebSocket client of the kit, against a small server on the same hub."""

import json

import gevent
import pytest
from gevent.event import AsyncResult
from gevent.pool import Pool
from gevent.server import StreamServer
from wsproto import ConnectionType, WSConnection, events

from zmqservices.exceptions import MethodNotFound, serialize
from zmqservices.testing.websocket import ConnectionRefused, make_virtual_socket


class Server:
    """Answers `double`, refuses other methods, is silent to `nothing`, and hangs up on `leave`."""

    def __init__(self, accepts=True, port=0):
        self._accepts = accepts
        self._pool = Pool()
        self._server = StreamServer(("127.0.0.1", port), self.serve, spawn=self._pool)
        self._server.start()
        self.port = self._server.server_port
        self.goodbyes = []
        self.text = ""

    def serve(self, connection, _address):
        protocol = WSConnection(ConnectionType.SERVER)
        while data := connection.recv(65536):
            protocol.receive_data(data)
            for event in protocol.events():
                for answer in self.answer(event):
                    connection.sendall(protocol.send(answer))
                    if isinstance(answer, events.CloseConnection):
                        return

    def answer(self, event):
        if isinstance(event, events.Request):
            if not self._accepts or event.target != "/ws":
                return [events.RejectConnection(status_code=404)]
            hello = json.dumps({"type": "event", "event": "connected", "data": {"socket_id": "1"}})
            return [events.AcceptConnection(), events.Ping(b"there?"), events.Message(hello)]
        if isinstance(event, events.TextMessage):
            self.text += event.data
            if event.message_finished:
                text, self.text = self.text, ""
                return self.call(json.loads(text))
        if isinstance(event, events.CloseConnection):
            self.goodbyes.append(event.code)
            return [event.response()]
        return []

    def call(self, message):
        answer = {"type": "result", "correlation_id": message["correlation_id"]}
        if message["method"] == "leave":
            return [events.CloseConnection(code=1001, reason="going")]
        if message["method"] == "nothing":
            return []
        if message["method"] == "double":
            answer |= {"success": True, "data": message["data"]["text"] * 2}
        else:
            answer |= {"success": False, "error": serialize(MethodNotFound(message["method"]))}
        text = json.dumps(answer)
        # In fragments, as a proxy in between may send it.
        half = len(text) // 2
        return [events.TextMessage(text[:half], message_finished=False), events.TextMessage(text[half:])]

    def stop(self):
        self._server.stop(0)
        self._pool.kill()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def connect(server):
    threads = []

    def start(path="/ws"):
        app, wait_for_socket = make_virtual_socket("127.0.0.1", server.port, path)
        threads.append(gevent.spawn(app.run_forever))
        return app, wait_for_socket()

    yield start
    gevent.killall(threads)


def test_the_first_event_says_which_socket_it_is(connect):
    _, socket = connect()

    assert socket.wait_for_event("connected") == ("connected", {"socket_id": "1"})
    assert socket.get_event_queue("connected").empty()


def test_a_method_is_called(connect):
    _, socket = connect()

    assert socket.rpc("double", text="ab") == "abab"
    assert socket.rpc("double", text="x" * 100_000) == "x" * 200_000


def test_bytes_are_sent_as_a_text_as_by_namekos_client(connect):
    app, socket = connect()
    answers = []
    app.on_message = lambda app, text: answers.append(json.loads(text)) or socket.take(text)

    app.send(json.dumps({"method": "double", "data": {"text": "é"}, "correlation_id": "mine"}, ensure_ascii=False).encode())
    socket.rpc("double", text="")

    assert answers[0]["data"] == "éé"


def test_an_error_is_raised_as_itself(connect):
    _, socket = connect()

    with pytest.raises(MethodNotFound, match="half"):
        socket.rpc("half")


def test_who_waits_hears_of_the_end(connect):
    app, socket = connect()
    waiting = gevent.spawn(lambda: pytest.raises(ConnectionError, socket.rpc, "nothing"))
    gevent.sleep(0)

    with pytest.raises(ConnectionError, match="closed before the answer came"):
        socket.rpc("leave")

    waiting.get(timeout=30)
    assert app.ended.get(timeout=30) == (1001, "going")


def test_closing_says_goodbye(connect, server):
    app, socket = connect()
    socket.wait_for_event("connected")

    app.close()

    assert app.ended.get(timeout=30)[0] == 1000
    assert server.goodbyes == [1000]
    app.close()


def test_a_test_may_listen_for_itself(connect):
    app, _ = connect()
    heard, ended = [], AsyncResult()
    app.on_message = lambda app, text: heard.append(json.loads(text)["data"])
    app.on_close = ended.set

    app.send(json.dumps({"method": "double", "data": {"text": "ab"}, "correlation_id": 1}))
    app.send(json.dumps({"method": "leave", "data": {}, "correlation_id": 2}))

    assert ended.get(timeout=30) is app
    assert heard[-1] == "abab"


def test_a_server_that_does_not_accept_is_an_error(connect):
    with pytest.raises(ConnectionRefused, match="the server answered 404"):
        connect("/elsewhere")


def test_a_port_that_nobody_listens_at_is_an_error(connect, server):
    server.stop()

    with pytest.raises(OSError):
        connect()
