"""The bytes with which etcd's keys are read, and servers that do not answer as etcd does."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.backends.etcd.member import EtcdFailure, EtcdMember
from discovery.backends.etcd.messages import Range
from discovery.backends.etcd.ranges import (
    RANGE,
    RangePage,
    ReadAnswer,
    StoredKey,
    decode_range,
    decode_ranges,
    encode_range,
    encode_ranges,
)
from discovery.backends.urls import parse_engine_url
from discovery.client.patience import Patience
from discovery.exceptions import EngineError, EngineOverdueError
from tests.discovery.http2_peer import Peer, headers, message

#: A header of cluster 5 at revision 300, and a key: k = v, created at 1, changed at 300, its version 2, under lease 200.
HEADER = bytes.fromhex("0a05" "0805" "18ac02")
KEY = bytes.fromhex("120f" "0a016b" "1001" "18ac02" "2002" "2a0176" "30c801")
KEY = KEY[:1] + bytes([len(KEY) - 2]) + KEY[2:]
STORED = StoredKey(b"k", b"v", KEY[2:])


def test_the_answer_for_a_range_is_decoded():
    assert decode_range(HEADER + KEY + bytes.fromhex("1801" "2009")) == ReadAnswer("5", 300, [RangePage([STORED], True)])
    assert (STORED.revision, STORED.lease) == (300, 200)
    assert decode_range(b"") == ReadAnswer("", 0, [RangePage([], False)])


def test_a_value_of_many_bytes_is_decoded():
    value = bytes(range(256)) * 4
    key = b"\x0a\x01k\x2a\x80\x08" + value
    assert decode_range(b"\x12" + b"\x86\x08" + key).pages[0].items == [StoredKey(b"k", value, key)]


def test_the_answer_for_a_transaction_of_ranges_is_decoded():
    page = HEADER + KEY
    responses = b"".join(b"\x1a" + bytes([len(one) + 2]) + b"\x0a" + bytes([len(one)]) + one for one in (page, b""))

    pages = [RangePage([STORED], False), RangePage([], False)]
    assert decode_ranges(HEADER + b"\x10\x01" + responses) == ReadAnswer("5", 300, pages)


def test_requests_are_encoded():
    request = encode_range(Range(b"a", b"b"), 3, 300, keys_only=True)

    assert request == bytes.fromhex("0a0161" "120162" "1803" "20ac02" "4001")
    assert encode_ranges([encode_range(Range(b"a"))] * 2) == bytes.fromhex("1205" "0a03" "0a0161") * 2


BAD = ["12020a05", "12020a01", "1201", "120118", "120209", "12038a0101", "10", "0a05", "1a030a0512", "18" + "ff" * 11]


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_answer_is_refused(bad):
    for decode in (decode_range, decode_ranges):
        try:
            decode(bytes.fromhex(bad))
        except ValueError:
            break
    else:
        raise AssertionError("it was decoded")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_value_error(data):
    for decode in (decode_range, decode_ranges):
        try:
            assert isinstance(decode(data), ReadAnswer)
        except ValueError:
            pass


@pytest.fixture
def member(stack):
    """A member that answers like this, and the patience with which it is asked."""

    def make(**answers):
        peer = stack.enter_context(closing(Peer(**answers)))
        url = parse_engine_url(f"etcd://127.0.0.1:{peer.server[1]}/shop", 2379, "", ())
        patience = Patience(10.0)
        return stack.enter_context(closing(EtcdMember(peer.server, url, "/shop/", patience))), patience

    return make


def answered(*parts):
    """The answer of a server: a message in these parts, and a status of 0."""

    def answer(http, stream):
        headers()(http, stream)
        for part in parts:
            http.send_data(stream, part)
        http.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    return answer


def test_an_answer_that_comes_in_parts_is_read(member):
    one, _ = member(answer=answered(b"\0\0\0", b"\0\2h", b"i"))

    assert one.ask(RANGE, b"") == b"hi"
    assert one.ask(RANGE, b"") == b"hi", "the connection is used again"


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        ("3", "user name is empty", EtcdFailure),
        ("14", "127.0.0.1:.* answered: no leader", EngineError),
    ],
)
def test_an_error_of_etcd_is_told(member, status, words, kind):
    failed = ("grpc-status", status), ("grpc-message", f"etcdserver: {words.rpartition(': ')[2]}")
    one, _ = member(answer=headers(*failed, end=True))

    with pytest.raises(kind, match=words):
        one.ask(RANGE, b"")


def test_a_silent_server_is_given_up_and_the_next_one_gets_more_time(member):
    one, patience = member()
    patience.seconds = 0.2

    with pytest.raises(EngineOverdueError, match=r"did not answer within 0.2 s"):
        one.ask(RANGE, b"")

    assert patience.overdue == 1 and patience.seconds == 0.4


def test_a_server_that_ends_the_connection_is_asked_once_more_only_if_the_connection_was_old(member):
    one, _ = member(answer=headers(end=True))

    with pytest.raises(EngineError, match="does not speak gRPC as etcd does: 0 messages"):
        one.ask(RANGE, b"")


def test_a_message_among_others_is_refused(member):
    one, _ = member(answer=answered(b"\0\0\0\0\1x" * 2))

    with pytest.raises(EngineError, match="does not speak gRPC as etcd does: 2 messages"):
        one.ask(RANGE, b"")


def test_a_message_of_gigabytes_is_refused(member):
    one, _ = member(answer=message(b"\0\xff\xff\xff\xff"))

    with pytest.raises(EngineError, match="sent a message of 4294967295 bytes"):
        one.ask(RANGE, b"")
