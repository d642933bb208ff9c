"""A client that sends without a pause does not keep others waiting: it is served a little in each turn of the event loop."""

from collections import Counter

import gevent
import pytest
from gevent.socket import socket as Socket

from tests.stage import until
from tests.system.hostile_messages import web_frame
from zmqservices.utils import turns
from zmqservices.utils.turns import Turn
from zmqservices.web import listening, protocol, reading
from zmqservices.web.handlers import http
from zmqservices.web.listening import ACCEPTED_BESIDE_OTHERS
from zmqservices.web.websocket import rpc
from zmqservices.web.websocket.transport import WebSocketTransport

MANY = 300


class Service:
    name = "service"

    @rpc
    def hi(self, socket_id):
        return "hi"

    @http("POST", "/length")
    def length(self, request):
        return str(len(request.get_data()))


@pytest.fixture
def web(serve, monkeypatch):
    """A service where the turn of a client is as short as can be."""
    monkeypatch.setattr(turns, "LONGEST_TURN", 0.0)
    return serve(Service)


@pytest.fixture
def calls(monkeypatch):
    """`calls(owner, name)`: from now on counts the calls of this function in each turn of the event loop."""

    def watch(owner, name):
        function, counted = getattr(owner, name), Counter()

        def call(*args, **kwargs):
            counted[gevent.get_hub().loop.iteration] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)
        return counted

    return watch


def test_others_run_between_two_pieces_of_a_long_turn(monkeypatch):
    loop = gevent.get_hub().loop
    turn, seen = Turn(), []

    for length in (0.0, 0.0, 1000.0, 1000.0):
        monkeypatch.setattr(turns, "LONGEST_TURN", length)
        turn.give_way()
        seen.append(loop.iteration)

    # The first piece begins a turn, and the second one the next turn, which has no end.
    assert seen[1] > seen[0]
    assert seen[1] == seen[2] == seen[3]


def test_requests_that_arrive_together_are_answered_one_a_turn(web, calls):
    answered = calls(protocol, "read_head")

    web.raw(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * MANY)
    until(lambda: answered.total() == MANY)

    assert max(answered.values()) <= 2  # The first of all comes with the connection.


def test_a_body_of_tiny_chunks_is_read_a_piece_a_turn(web, calls):
    chunks = calls(reading, "chunk_size")
    head = b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    web.raw(head + b"1\r\nx\r\n" * 20 * MANY + b"0\r\n\r\n")
    until(lambda: chunks.total() == 20 * MANY + 1)

    # What a buffered reader asks the socket for at a time.
    assert max(chunks.values()) <= 8192 / 6 + 2


def test_what_follows_a_refused_request_is_discarded_a_piece_a_turn(web, calls, monkeypatch):
    monkeypatch.setattr(protocol, "PIECE", 10)
    discarded = calls(Socket, "recv")

    web.raw(b"nothing\r\n\r\n" + b"x" * 100_000)
    until(lambda: discarded.total() >= MANY)

    assert max(discarded.values()) <= 2


@pytest.mark.parametrize("opcode", [1, 9], ids=["messages", "pings"])
def test_frames_that_arrive_together_are_answered_one_a_turn(web, calls, opcode):
    socket = web.websocket()
    answered = calls(WebSocketTransport, "_put")

    socket.sock.sendall(web_frame(b'{"method": "none"}', opcode) * MANY)
    until(lambda: answered.total() == MANY)

    assert max(answered.values()) <= 2


def ask_by_http(web):
    connection = web.connect()
    for _ in range(2):
        connection.ask("POST", "/length", b"12")


def ask_by_websocket(web):
    web.websocket().result("hi")


@pytest.mark.parametrize("use", [ask_by_http, ask_by_websocket])
def test_connections_are_accepted_one_a_turn_while_open_ones_are_used_again(web, calls, use, monkeypatch):
    # However long a busy machine takes for the connections below.
    monkeypatch.setattr(listening, "IN_USE", 1000.0)
    use(web)
    accepted = calls(listening.Server, "do_read")

    connections = [web.raw() for _ in range(20)]
    until(lambda: accepted.total() >= len(connections))

    assert max(accepted.values()) == ACCEPTED_BESIDE_OTHERS


def test_some_connections_are_accepted_at_once_if_each_has_one_request(web, calls):
    accepted = calls(listening.Server, "do_read")

    for _ in range(20):
        assert web.ask("POST", "/length", b"12").text == "2"

    # One attempt more shows that there are no others.
    assert max(accepted.values()) == 2
