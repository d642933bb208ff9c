"""WebSockets over real sockets: calls, events, the end of connections, and bad messages."""

import json
import threading

import gevent
import pytest
import websocket as websocket_client
import werkzeug.exceptions
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.hosting.stage import Recorder
from tests.stage import Context, Gate, until
from tests.web.sockets import Closed, Refused
from zmqservices.exceptions import ConfigurationError, ConnectionNotFound
from zmqservices.runners import run_services
from zmqservices.web.handlers import http
from zmqservices.web.server import WebServer
from zmqservices.web.websocket import WebSocketHub, WebSocketHubProvider, WebSocketServer, on_connect, on_disconnect, rpc


class Chat:
    name = "chat"
    hub = WebSocketHubProvider()
    gate = Gate()

    @rpc
    def add(self, socket_id, a, b=1):
        return a + b

    @rpc
    def who(self, socket_id):
        return socket_id

    @rpc
    def join(self, socket_id, room):
        self.hub.subscribe(socket_id, room)
        return self.hub.get_subscriptions(socket_id)

    @rpc
    def leave(self, socket_id, room):
        self.hub.unsubscribe(socket_id, room)
        return self.hub.get_subscriptions(socket_id)

    @rpc
    def say(self, socket_id, room, text):
        self.hub.broadcast(room, "said", {"text": text})

    @rpc
    def hold(self, socket_id):
        self.gate()
        return "held"

    @rpc(expected_exceptions=ValueError)
    def fail(self, socket_id, kind):
        raise {"value": ValueError, "key": KeyError}[kind]("the secret")

    @rpc
    def unsendable(self, socket_id):
        return object()


@pytest.fixture(autouse=True)
def fresh_gate():
    Chat.gate = Gate()


def server_of(web):
    return next(one for one in web.container.extensions if isinstance(one, WebSocketServer))


def hub_of(web):
    return next(one for one in web.container.dependencies if isinstance(one, WebSocketHubProvider)).hub


@pytest.fixture
def chat(serve):
    return serve(Chat)


# --- calls ---------------------------------------------------------------------------------------------------------


def test_the_first_message_has_the_id_of_the_socket(chat):
    first = chat.websocket(greeted=False).receive()

    assert (first["type"], first["event"]) == ("event", "connected")
    assert list(server_of(chat).connections) == [first["data"]["socket_id"]]


def test_connections_and_their_channels_can_be_read(chat):
    socket, other = chat.websocket(), chat.websocket()
    ids = [each.result("who") for each in (socket, other)]
    socket.result("join", room="tea")

    server = server_of(chat)
    hub = WebSocketHub(server)
    assert sorted(server.sockets) == sorted(ids)
    assert [server.sockets[each].socket_id for each in ids] == ids
    assert hub.subscriptions == {"tea": {ids[0]}}

    socket.result("leave", room="tea")
    assert hub.subscriptions == {}


def test_a_call_is_answered(chat):
    socket = chat.websocket()
    socket.send("add", "mine", a=2, b=3)

    assert socket.receive() == {"type": "result", "success": True, "data": 5, "correlation_id": "mine"}
    assert socket.result("add", a=2) == 3


def test_a_correlation_id_may_be_anything(chat):
    socket = chat.websocket()
    socket.send_text(json.dumps({"method": "add", "data": {"a": 1}, "correlation_id": [1, {"x": None}]}))

    assert socket.receive()["correlation_id"] == [1, {"x": None}]


def test_semantic_53_calls_of_one_connection_run_in_parallel_and_are_answered_as_they_end(chat):
    socket = chat.websocket()
    held = [socket.send("hold") for _ in range(3)]
    Chat.gate.wait_for(3)

    assert socket.result("add", a=1) == 2
    Chat.gate.open()
    assert sorted(socket.receive()["correlation_id"] for _ in range(3)) == sorted(held)


def test_the_calls_in_flight_of_one_connection_are_bounded(serve):
    chat = serve(Chat, WEBSOCKET_MAX_CALLS=2, max_workers=100)
    socket = chat.websocket()
    for _ in range(10):
        socket.send("hold")
    Chat.gate.wait_for(2)
    gevent.sleep(0.05)

    assert Chat.gate.inside == 2
    assert chat.websocket().result("add", a=1) == 2
    Chat.gate.open()
    assert [socket.receive()["data"] for _ in range(10)] == ["held"] * 10


# --- errors --------------------------------------------------------------------------------------------------------


def test_an_expected_error_is_sent_with_its_message(chat):
    error = chat.websocket().error("fail", kind="value")

    assert (error["exc_type"], error["value"], error["exc_args"]) == ("ValueError", "the secret", ["the secret"])


def test_only_the_class_of_any_other_error_is_sent(chat):
    error = chat.websocket().error("fail", kind="key")

    assert error == {"exc_type": "KeyError", "exc_path": "", "exc_args": [], "value": "internal error"}


def test_a_result_that_is_not_json_is_an_error_that_dependencies_get(serve):
    class Recorded(Chat):
        recorder = Recorder()

    web = serve(Recorded)

    assert web.websocket().error("unsendable")["exc_type"] == "UnserializableValueError"
    recorder = next(one for one in web.container.dependencies if isinstance(one, Recorder))
    until(lambda: len(recorder.calls) == 4)
    assert recorder.calls[2][3].__name__ == "UnserializableValueError"


def test_a_method_that_does_not_exist(chat):
    error = chat.websocket().error("nonsense")

    assert (error["exc_type"], error["value"]) == ("MethodNotFound", "nonsense")


@pytest.mark.parametrize("data", [{}, {"a": 1, "c": 2}, {"a": 1, "socket_id": "x"}, {"a": 1, "self": 1}])
def test_arguments_that_do_not_fit(chat, data):
    assert chat.websocket().error("add")["exc_type"] == "IncorrectSignature"
    socket = chat.websocket()
    socket.send_text(json.dumps({"method": "add", "data": data, "correlation_id": 1}))
    assert socket.receive()["error"]["exc_type"] == "IncorrectSignature"


@pytest.mark.parametrize(
    "text, correlation_id",
    [
        ("{", None),
        ("", None),
        ("[]", None),
        ("7", None),
        ("null", None),
        ('"add"', None),
        ("{}", None),
        ('{"method": NaN}', None),
        ("[" * 100_000, None),
        ('{"method": 7, "correlation_id": "x"}', "x"),
        ('{"method": "add", "data": [1], "correlation_id": "x"}', "x"),
    ],
)
def test_semantic_53_an_invalid_call_gets_an_error_and_the_connection_lives(chat, text, correlation_id):
    socket = chat.websocket()
    socket.send_text(text)
    answer = socket.receive()

    assert (answer["success"], answer["correlation_id"]) == (False, correlation_id)
    assert answer["error"]["exc_type"] == "MalformedRequest"
    assert answer["error"]["exc_path"] == "zmqservices.exceptions.MalformedRequest"
    assert socket.result("add", a=1) == 2


def test_calls_beyond_the_queue_of_the_service_are_refused(serve):
    chat = serve(Chat, max_workers=1, max_queued_calls=1)
    socket = chat.websocket()
    socket.send("hold")
    Chat.gate.wait_for(1)
    socket.send("hold")
    until(lambda: chat.container.queued == 1)

    assert socket.error("add", a=1)["exc_type"] == "Overloaded"


# --- the hub -------------------------------------------------------------------------------------------------------


def test_events_go_to_the_sockets_of_the_channel(chat):
    ada, grace, other = (chat.websocket() for _ in range(3))
    for socket in (ada, grace):
        socket.result("join", room="maths")
    other.result("join", room="physics")

    other.result("say", room="maths", text="hello")

    for socket in (ada, grace):
        assert socket.receive() == {"type": "event", "event": "said", "data": {"text": "hello"}}
    assert other.result("add", a=1) == 2


def test_subscriptions_are_sorted_and_leaving_an_unknown_channel_does_nothing(chat):
    socket = chat.websocket()
    socket.result("join", room="b")

    assert socket.result("join", room="a") == ["a", "b"]
    assert socket.result("leave", room="c") == ["a", "b"]
    assert socket.result("leave", room="b") == ["a"]


def test_an_event_may_be_sent_to_one_socket(chat):
    socket, other = chat.websocket(), chat.websocket()
    hub = hub_of(chat)

    assert hub.unicast(socket.id, "hey", 1) is True
    assert socket.receive() == {"type": "event", "event": "hey", "data": 1}
    assert hub.unicast("nobody", "hey", 1) is False
    assert other.result("add", a=1) == 2


def test_semantic_53_a_socket_that_does_not_exist(chat):
    hub = hub_of(chat)

    with pytest.raises(ConnectionNotFound):
        hub.subscribe("nobody", "room")
    hub.unsubscribe("nobody", "room")
    assert hub.get_subscriptions("nobody") == []


def test_data_that_is_not_json_is_refused_at_the_sender(chat):
    from zmqservices.exceptions import UnserializableValueError

    with pytest.raises(UnserializableValueError):
        hub_of(chat).broadcast("room", "said", object())


def test_nothing_is_kept_of_a_closed_socket(chat):
    socket = chat.websocket()
    socket.result("join", room="maths")
    socket.close()

    until(lambda: not server_of(chat).connections)
    assert server_of(chat).channels == {}
    until(lambda: not chat.server._answering)
    assert hub_of(chat).unicast(socket.id, "x", 1) is False


# --- the ends of a connection ----------------------------------------------------------------------------------------


class Guarded:
    name = "guarded"
    hub = WebSocketHubProvider()
    told = []

    @on_connect
    def connected(self, socket_id, request):
        if request.args.get("token") == "bad":
            raise ValueError("the secret")
        if "token" not in request.args:
            raise werkzeug.exceptions.Forbidden("say who you are")
        self.hub.subscribe(socket_id, request.args["token"])
        self.hub.unicast(socket_id, "early", 1)
        self.told.append(("connected", socket_id))

    @on_disconnect
    def disconnected(self, socket_id):
        self.told.append(("disconnected", socket_id))

    @rpc
    def mine(self, socket_id):
        return self.hub.get_subscriptions(socket_id)


def test_a_service_is_called_when_connections_open_and_close(serve):
    Guarded.told = []
    web = serve(Guarded)
    socket = web.websocket("/ws?token=ada")

    assert socket.receive()["event"] == "early"
    assert socket.result("mine") == ["ada"]
    socket.close()
    until(lambda: Guarded.told == [("connected", socket.id), ("disconnected", socket.id)])


@pytest.mark.parametrize(
    "path, status, text", [("/ws", 403, b"say who you are"), ("/ws?token=bad", 500, b"Internal Server Error")]
)
def test_a_service_may_refuse_a_connection(serve, path, status, text):
    Guarded.told = []
    web = serve(Guarded)

    with pytest.raises(Refused) as refused:
        web.websocket(path)

    assert refused.value.status == status
    assert text in refused.value.body
    assert server_of(web).connections == {}
    assert server_of(web).channels == {}
    assert Guarded.told == []


def test_context_data_of_the_handshake_goes_with_every_call(serve):
    class Server(WebServer):
        def context_data_from_headers(self, request):
            return {"user_id": request.headers["X-User"]}

    class Sockets(WebSocketServer):
        wsgi_server = Server()

    from zmqservices.web.websocket import WebSocketRpc

    class Rpc(WebSocketRpc):
        server = Sockets()

    class Service:
        name = "service"
        context = Context()

        @Rpc.decorator
        def who(self, socket_id):
            self.context.data["mine"] = "only this call's"
            return sorted(self.context.data.items())

    socket = serve(Service).websocket(headers=[("X-User", "ada")])

    assert socket.result("who") == socket.result("who") == [["mine", "only this call's"], ["user_id", "ada"]]


def test_a_client_closes_its_connection(chat):
    socket = chat.websocket()
    socket.put(CloseConnection(code=1000, reason="bye"))

    with pytest.raises(Closed) as closed:
        socket.receive()
    assert closed.value.code == 1000
    until(lambda: not server_of(chat).connections)


def test_a_stopping_service_answers_open_calls_and_closes_connections(chat):
    socket = chat.websocket()
    socket.send("hold")
    Chat.gate.wait_for(1)
    stopping = gevent.spawn(chat.container.stop)
    until(lambda: server_of(chat)._is_draining)

    assert socket.error("add", a=1)["exc_type"] == "Draining"
    Chat.gate.open()
    assert socket.receive()["data"] == "held"
    with pytest.raises(Closed) as closed:
        socket.receive()
    stopping.get(timeout=30)
    assert (closed.value.code, closed.value.reason) == (1001, "the service is stopping")


def test_a_service_with_a_hub_and_http_only_closes_connections_too(serve):
    class Told:
        name = "told"
        hub = WebSocketHubProvider()

        @http("POST", "/say")
        def say(self, request):
            self.hub.unicast(request.args["id"], "said", request.get_data(as_text=True))
            return ""

    web = serve(Told)
    socket = web.websocket()
    web.ask("POST", f"/say?id={socket.id}", "hello")
    assert socket.receive()["data"] == "hello"

    stopping = gevent.spawn(web.container.stop)
    with pytest.raises(Closed) as closed:
        socket.receive()
    stopping.get(timeout=30)
    assert closed.value.code == 1001


def test_a_kill_cuts_all_connections(chat):
    socket = chat.websocket()
    socket.send("hold")
    Chat.gate.wait_for(1)

    chat.container.kill()

    with pytest.raises((Closed, OSError)):
        socket.receive()


# --- those who are silent, slow or many ------------------------------------------------------------------------------


def test_a_client_that_answers_pings_lives(serve):
    # A busy machine may take longer than 40 ms to answer. Then a client of shorter intervals is dropped as it should be.
    chat = serve(Chat, WEBSOCKET_PING_INTERVAL=0.2)
    socket = chat.websocket()
    reading = gevent.spawn(socket.receive)
    until(lambda: socket.pings > 5)

    assert list(server_of(chat).connections) == [socket.id]
    reading.kill()


def test_a_client_that_does_not_answer_pings_is_dropped(serve, caplog):
    caplog.set_level("INFO")
    chat = serve(Chat, WEBSOCKET_PING_INTERVAL=0.02)
    socket = chat.websocket(answers_pings=False)

    with pytest.raises((Closed, OSError)):
        socket.receive()
    until(lambda: not server_of(chat).connections)
    assert "it was silent for" in caplog.text


def test_a_slow_client_is_cut_off_and_costs_no_more_than_its_queue(serve, caplog):
    caplog.set_level("INFO")
    chat = serve(Chat, WEBSOCKET_MAX_QUEUED_BYTES=100_000)
    slow, quick = chat.websocket(buffer=4096), chat.websocket()
    hub = hub_of(chat)
    for socket in (slow, quick):
        hub.subscribe(socket.id, "news")
    transport = server_of(chat).connections[slow.id].transport

    while slow.id in server_of(chat).connections:
        hub.broadcast("news", "more", "x" * 10_000)
        assert transport._queued <= 100_000
        assert quick.receive()["event"] == "more"

    assert "it did not read the" in caplog.text


def test_a_message_that_is_too_large(serve):
    chat = serve(Chat, WEBSOCKET_MAX_MESSAGE=1000)
    socket = chat.websocket()
    socket.send_text("x" * 1001)

    with pytest.raises(Closed) as closed:
        socket.receive()
    assert (closed.value.code, closed.value.reason) == (1009, "a message may have 1000 bytes")


def test_a_message_in_pieces_that_becomes_too_large(serve):
    chat = serve(Chat, WEBSOCKET_MAX_MESSAGE=1000)
    socket = chat.websocket()
    for _ in range(11):
        socket.put(TextMessage(data="x" * 100, message_finished=False))

    with pytest.raises(Closed) as closed:
        socket.receive()
    assert closed.value.code == 1009


def test_a_message_may_come_in_pieces_and_as_bytes(chat):
    socket = chat.websocket()
    text = json.dumps({"method": "add", "data": {"a": 1}, "correlation_id": "x"})
    for character in text[:-1]:
        socket.put(TextMessage(data=character, message_finished=False))
    socket.put(TextMessage(data=text[-1]))
    assert socket.receive()["data"] == 2

    data = text.replace('"x"', '"ü"').encode()
    for start in range(len(data) - 1):
        socket.put(BytesMessage(data=data[start : start + 1], message_finished=False))
    socket.put(BytesMessage(data=data[-1:]))
    assert socket.receive()["correlation_id"] == "ü"


def test_pings_of_clients_are_answered(chat):
    socket = chat.websocket()
    socket.put(Ping(payload=b"you there?"))

    assert socket.receive() == {"type": "pong", "payload": "you there?"}


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 100,
        b"\x81\x05hello",
        b"\x81\xfe",
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x81\x82\x00\x00\x00\x00\xff\xfe",
        b"\x88\x81\x00\x00\x00\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_junk_in_place_of_frames_only_ends_the_connection(chat, data, capfd):
    socket = chat.websocket()
    socket.sock.sendall(data)
    socket.sock.shutdown(1)
    while socket.sock.recv(1000):
        pass

    until(lambda: not server_of(chat).connections)
    assert chat.websocket().result("add", a=1) == 2
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 426),
        ({"Upgrade": "h2c", "Connection": "Upgrade"}, 426),
        ({"Upgrade": "websocket"}, 400),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "8", "Sec-WebSocket-Key": "x"}, 400),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}, 400),
    ],
)
def test_an_invalid_handshake_gets_an_error(chat, headers, status):
    assert chat.ask("GET", "/ws", headers=headers).status == status
    assert server_of(chat).connections == {}


def test_a_handshake_without_a_host_gets_an_error(chat):
    head = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n"
    sock = chat.raw(head + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")

    assert sock.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_client_with_long_calls_does_not_count_as_dead(serve):
    chat = serve(Chat, WEBSOCKET_PING_INTERVAL=0.02, WEBSOCKET_MAX_CALLS=1)
    socket = chat.websocket()
    socket.send("hold")
    Chat.gate.wait_for(1)
    gevent.sleep(0.2)

    assert list(server_of(chat).connections) == [socket.id]
    Chat.gate.open()
    assert socket.receive()["data"] == "held"


def test_a_connection_that_waits_for_a_call_is_cut_with_its_service_only(serve):
    class Other:
        name = "other"

        @http("GET", "/")
        def get(self, request):
            return "lives"

    chat, other = serve(Chat, WEBSOCKET_MAX_CALLS=1), serve(Other)
    socket = chat.websocket()
    socket.send("hold")
    Chat.gate.wait_for(1)

    chat.container.kill()

    assert other.get("/").text == "lives"
    until(lambda: not chat.server._answering)


def test_a_handshake_that_waits_is_refused_when_the_service_is_killed(serve):
    class Careful:
        name = "careful"
        gate = Gate()

        @on_connect
        def enter(self, socket_id, request):
            self.gate()

    class Other:
        name = "other"

        @http("GET", "/")
        def get(self, request):
            return "lives"

    careful, other = serve(Careful), serve(Other)
    connecting = gevent.spawn(careful.websocket)
    Careful.gate.wait_for(1)

    careful.container.kill()

    with pytest.raises(Refused) as refused:
        connecting.get()
    assert refused.value.status == 503
    assert other.get("/").text == "lives"


def test_half_open_connections_are_dropped(serve):
    """Clients that fell off the network: nothing is closed, nothing is answered."""
    chat = serve(Chat, WEBSOCKET_PING_INTERVAL=0.05)
    for _ in range(20):
        chat.websocket()
    until(lambda: not server_of(chat).connections)

    assert chat.websocket().result("add", a=1) == 2


def test_a_thousand_idle_connections_do_not_stop_calls_and_leave_nothing_behind(serve):
    chat = serve(Chat)
    sockets = [chat.websocket() for _ in range(1000)]
    hub = hub_of(chat)
    for socket in sockets:
        hub.subscribe(socket.id, "all")

    hub.broadcast("all", "hello", 1)

    assert all(socket.receive()["event"] == "hello" for socket in sockets)
    for socket in sockets:
        socket.close()
    until(lambda: not server_of(chat).connections, timeout=10)
    until(lambda: not chat.server._answering)
    assert server_of(chat).channels == {}
    assert chat.websocket().result("add", a=1) == 2


# --- where -----------------------------------------------------------------------------------------------------------


def test_another_path(serve):
    chat = serve(Chat, WEBSOCKET_PATH="/sockets/{service}")

    assert chat.websocket("/sockets/chat").result("add", a=1) == 2
    with pytest.raises(Refused):
        chat.websocket("/ws")


def test_two_services_of_one_address_need_two_paths(serve):
    class Other(Chat):
        name = "other"

    with run_services({"WEB_SERVER_ADDRESS": "127.0.0.1:0", "WEBSOCKET_PATH": "/{service}"}, Chat, Other):
        pass
    serve(Chat)
    with pytest.raises(ConfigurationError, match="WebSocketServer both answer GET '/ws'"):
        serve(Other)


def test_requests_and_websockets_share_an_address(serve):
    class Both(Chat):
        @http("GET", "/")
        def get(self, request):
            return "hello"

    web = serve(Both)

    assert web.get("/").text == "hello"
    assert web.websocket().result("add", a=1) == 2


@pytest.mark.parametrize(
    "origin, is_allowed",
    [("https://shop.example", True), ("https://evil.example", False), (None, True), ("own", True)],
)
def test_pages_of_other_origins_may_connect_if_cors_allows_it(serve, origin, is_allowed):
    chat = serve(Chat, WEB_SERVER_CORS={"origins": ["https://shop.example"]})
    origin = f"http://127.0.0.1:{chat.address.port}" if origin == "own" else origin
    headers = [("Origin", origin)] if origin else []

    if is_allowed:
        assert chat.websocket(headers=headers).result("add", a=1) == 2
    else:
        with pytest.raises(Refused) as refused:
            chat.websocket(headers=headers)
        assert refused.value.status == 403


def test_a_thread_with_another_websocket_library_can_be_a_client(chat):
    seen = []

    def talk():
        socket = websocket_client.create_connection(f"ws://127.0.0.1:{chat.address.port}/ws", timeout=30)
        seen.append(json.loads(socket.recv())["event"])
        socket.send(json.dumps({"method": "add", "data": {"a": 1, "b": 2}, "correlation_id": "x"}))
        seen.append(json.loads(socket.recv())["data"])
        socket.close()

    thread = threading.Thread(target=talk)
    thread.start()
    until(lambda: not thread.is_alive())

    assert seen == ["connected", 3]
