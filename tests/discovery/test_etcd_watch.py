"""The bytes of etcd's watch protocol, and servers that do not follow it."""

import socket
import threading
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.backends.etcd.messages import Answer, Event, Range, decode_answer, encode_create
from discovery.backends.etcd.watch import WatchConnection
from discovery.exceptions import EngineError
from tests.discovery.http2_peer import Peer, headers, message

#: A header of a cluster; watch 7; an event of type DELETE whose key is `k`, of revision 300.
DELETED = bytes.fromhex("0a0408011802" "1007" "5a0a" "0801" "1206" "0a016b" "18ac02")


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (b"", Answer(0, [])),
        (DELETED, Answer(7, [Event(b"k", b"", 300, True)])),
        (bytes.fromhex("5a0a" "1208" "0a016b" "1802" "2a0176"), Answer(0, [Event(b"k", b"v", 2, False)])),
        (bytes.fromhex("10ffffffffffffffffff01" "2001" "2805" "32026e6f"), Answer(-1, [], True, 5, "no")),
    ],
)
def test_an_answer_is_decoded(message, answer):
    assert decode_answer(message) == answer


def test_a_request_is_encoded():
    assert encode_create(7, Range(b"k"), 300) == bytes.fromhex("0a08" "0a016b" "18ac02" "3807")
    assert encode_create(1, Range(b"a", b"b"), 0) == bytes.fromhex("0a08" "0a0161" "120162" "3801")


BAD = ["10", "1180", "5a05", "0a", "5a020a05", "10" + "ff" * 11, "1001" "5a0112", "1202aaaa", "5801"]


@pytest.mark.parametrize("message", BAD)
def test_what_is_no_answer_is_refused(message):
    with pytest.raises(ValueError):
        decode_answer(bytes.fromhex(message))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_value_error(message):
    try:
        assert isinstance(decode_answer(message), Answer)
    except ValueError:
        pass


NO_LEADER = ("grpc-status", "14"), ("grpc-message", "etcdserver: no leader")


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        ({"raw": b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9}, "does not speak HTTP/2, as etcd's port for clients does"),
        ({"raw": b"\0\0\0\4\0\0\0\0\1"}, "does not speak gRPC as etcd does: "),
        ({"answer": headers(status="404")}, "does not speak gRPC as etcd does .HTTP status 404"),
        ({"answer": headers(*NO_LEADER, end=True)}, "ended the watch: no leader"),
        ({"answer": headers(end=True)}, "ended the watch"),
        ({"answer": lambda http, stream: http.reset_stream(stream, 8)}, "ended the watch with error 8"),
        ({"answer": lambda http, stream: http.close_connection(2)}, "ended the watch with error 2"),
        ({"answer": message(b"\0\xff\xff\xff\xff")}, "sent a message of 4294967295 bytes; 1000 are taken"),
        ({"answer": message(b"\1\0\0\0\1x")}, "sent a message of 1 bytes"),
        ({"answer": message(b"\0\0\0\0\1x")}, "sent no answer of a watch: "),
    ],
)  # fmt: skip
def test_a_server_that_does_not_speak_etcds_protocol_is_reported(peer, words):
    with closing(Peer(**peer)) as peer:
        connection = WatchConnection(peer.server, None, None, 10.0, 1000, lambda _: None)
        connection.ask(1, Range(b"a", b"b"), 5)

        with pytest.raises(EngineError, match=f"127.0.0.1:{peer.server[1]} {words}"):
            list(connection.answers())
        connection.close()


def test_pieces_of_an_answer_are_joined_and_another_thread_can_end_the_wait():
    streams = []
    frame = b"\0" + len(DELETED).to_bytes(4, "big") + DELETED

    def answer(http, stream):
        headers()(http, stream)
        for byte in frame:
            http.send_data(stream, bytes([byte]))

    with closing(Peer(answer)) as peer:
        connection = WatchConnection(peer.server, None, "token", 10.0, 1000, streams.append)
        answers = connection.answers()
        assert next(answers) == decode_answer(DELETED)

        cutting = threading.Timer(0.05, streams[0].cut)
        cutting.start()
        with pytest.raises(EngineError, match="closed the connection"):
            next(answers)
        cutting.join()
        connection.close()


def test_a_silent_server_is_given_up():
    with closing(Peer()) as peer:
        connection = WatchConnection(peer.server, None, None, 0.2, 1000, lambda _: None)

        with pytest.raises(EngineError, match="did not answer within 0.2 s"):
            next(connection.answers())
        connection.close()


def test_a_server_that_is_absent_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = listener.getsockname()

    with pytest.raises(EngineError, match=f"127.0.0.1:{server[1]} cannot be reached: Connection refused"):
        WatchConnection(server, None, None, 10.0, 1000, lambda _: None)
