"""Single calls to a member of etcd, and servers that answer in their own ways. No etcd is needed."""

import threading
from contextlib import closing

import pytest

from discovery.backends.etcd import grpc
from discovery.backends.etcd.member import EtcdFailure, EtcdMember
from discovery.backends.etcd.protobuf import field
from discovery.backends.etcd.watch import WatchConnection
from discovery.backends.tls import OPTIONS
from discovery.backends.urls import parse_engine_url
from discovery.client.patience import Patience
from discovery.exceptions import EngineError, EngineOverdueError
from tests.discovery.http2_peer import Peer, headers
from tests.discovery.stage import AT_LAST

PATH = "/etcdserverpb.KV/Txn"


def answered(content):
    """A complete answer with this message."""

    def answer(http, stream):
        headers()(http, stream)
        http.send_data(stream, b"\0" + len(content).to_bytes(4, "big") + content)
        http.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    return answer


def failed(code, text):
    """An answer that is an error."""
    return headers(("grpc-status", str(code)), ("grpc-message", text), end=True)


def in_turn(*answers):
    """An answer for each request."""
    remaining = iter(answers)
    return lambda http, stream: next(remaining)(http, stream)


def member_at(peer, seconds=AT_LAST, user=""):
    url = parse_engine_url(f"etcd://{user}{peer.server[0]}:{peer.server[1]}/", 2379, "", OPTIONS)
    return EtcdMember(peer.server, url, "/", Patience(seconds))


def test_a_server_may_answer_before_it_has_read_the_whole_request():
    def early(http, stream):
        http.increment_flow_control_window(65535)
        failed(8, "grpc: received message larger than max")(http, stream)
        http.reset_stream(stream, 0)

    with closing(Peer(in_turn(early, answered(b"yes")))) as peer, closing(member_at(peer)) as member:
        with pytest.raises(EngineError, match="answered: grpc: received message larger than max"):
            member.ask(PATH, b"x" * 100_000)

        assert member.ask(PATH, b"") == b"yes", "the connection goes on"


def test_pings_are_no_answer():
    pinged = threading.Event()

    def pinging(http, stream):
        receive = http.receive_data

        def receive_data(data):
            http.ping(b"anybody?")
            pinged.set()
            return receive(data)

        http.receive_data = receive_data
        http.ping(b"anybody?")

    with closing(Peer(pinging)) as peer, closing(member_at(peer, 0.1)) as member:
        cutting = threading.Timer(AT_LAST, member.close)
        cutting.start()
        with pytest.raises(EngineOverdueError, match="did not answer within"):
            member.ask(PATH, b"")
        cutting.cancel()
        assert pinged.is_set()


def test_a_watch_that_is_not_begun_is_overdue_although_the_server_speaks_http2():
    streams = []
    with closing(Peer(lambda http, stream: None)) as peer:
        connection = WatchConnection(peer.server, None, None, 0.1, 1000, streams.append)
        cutting = threading.Timer(AT_LAST, streams[0].cut)
        cutting.start()
        with pytest.raises(EngineOverdueError, match="did not answer within 0.1 s"):
            next(connection.answers())
        cutting.cancel()
        connection.close()


def test_a_second_message_in_an_answer_ends_the_call():
    def many(http, stream):
        headers()(http, stream)
        http.send_data(stream, bytes(10))

    with closing(Peer(many)) as peer, closing(member_at(peer)) as member:
        with pytest.raises(EngineError, match="does not speak gRPC as etcd does: 2 messages"):
            member.ask(PATH, b"")


def test_few_calls_that_have_ended_are_remembered(monkeypatch):
    monkeypatch.setattr(grpc, "REMEMBERED", 3)
    with closing(Peer(answered(b"yes"))) as peer, closing(member_at(peer)) as member:
        for _ in range(10):
            assert member.ask(PATH, b"") == b"yes"

        assert len(member._grpc._http._closed_streams) == 3


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (16, "etcdserver: invalid auth token"),
        (3, "etcdserver: revision of auth store is old"),
        (3, "etcdserver: user name is empty"),
    ],
)
def test_a_token_that_does_not_count_any_more_is_replaced(code, text):
    answers = in_turn(failed(code, text), answered(field(2, b"new")), answered(b"yes"))
    with closing(Peer(answers)) as peer, closing(member_at(peer, user="me:secret@")) as member:
        assert member.ask(PATH, b"") == b"yes"
        assert member.token == "new"


def test_without_a_user_no_token_is_asked_for():
    answer = failed(3, "etcdserver: user name is empty")
    with closing(Peer(answer)) as peer, closing(member_at(peer)) as member:
        with pytest.raises(EtcdFailure, match="^user name is empty$"):
            member.ask(PATH, b"")


def test_a_login_that_is_answered_with_junk_is_reported():
    with closing(Peer(answered(bytes.fromhex("1005")))) as peer, closing(member_at(peer, user="me:secret@")) as member:
        with pytest.raises(EngineError, match="sent no answer of etcd's: bytes are needed"):
            member.log_in()
