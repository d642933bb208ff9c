"""Several messages in one body: each is what it would be alone."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_envelope import messages
from zmqservices.exceptions import ProtocolError
from zmqservices.wire.batches import encode as encode_batch
from zmqservices.wire.envelope import decode, encode, encode_call, encode_result, message_of
from zmqservices.wire.messages import Batch, Call, Ping, Result
from zmqservices.wire.payloads import Payloads

PLACEHOLDER = bytes.fromhex("c70010")
CALLS = [encode_call(number, "maths", "add", (number, 2), None, 29.5, {"user": 7}) for number in range(40)]


def read(fields):
    try:
        return message_of(fields)
    except ProtocolError as exc:
        return str(exc)


@given(st.lists(messages.map(encode).filter(lambda frames: type(frames) is bytes), min_size=2, max_size=40))
def test_each_is_what_it_would_be_alone(bodies):
    batch = decode(encode_batch(bodies))

    assert type(batch) is Batch
    assert [message_of(fields) for fields in batch.messages] == [decode(body) for body in bodies]


@pytest.mark.parametrize("count", [2, 15, 16, 40])
def test_any_number_of_them(count):
    batch = decode(encode_batch(CALLS[:count]))

    assert [message_of(fields) for fields in batch.messages] == [decode(body) for body in CALLS[:count]]
    assert encode(batch) == encode_batch(CALLS[:count])


def test_one_alone_is_no_batch():
    assert encode_batch(CALLS[:1]) == CALLS[0]


def test_they_come_back_as_what_the_reader_asks_for():
    class Own(Call):
        __slots__ = ()

    (own, ping) = decode(encode_batch([CALLS[0], encode(Ping(3))])).messages

    assert type(message_of(own, Own)) is Own
    assert message_of(ping, Own) == Ping(3)


#: Well-formed msgpack that is no message, and what is said of it.
MALFORMED = {
    "no array": (b"\xa4junk", "a body is an array"),
    "nothing": (b"\x90", "a body is an array"),
    "an unknown kind": (b"\x92\xcc\xc8\x01", "200 is not a kind"),
    "fields of other types": (b"\x94\x03\xa1a\xa1b\x90", "fields, and only"),
    "an extension that nobody knows": (encode_result(1, 2)[:-1] + b"\xc7\x00\x55", "extension 85"),
    "a payload": (encode_result(1, 2)[:-1] + PLACEHOLDER, "none follows"),
    "a key that cannot be one": (encode_result(1, 2)[:-1] + b"\x81\x90\x01", "not a well-formed"),
    "no UTF-8": (encode_result(1, 2)[:-1] + b"\xa1\xff", "not a well-formed"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "what"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("place", [0, 1, 20])
def test_one_that_is_malformed_costs_no_other(place, body, what):
    bodies = [*CALLS[:place], body, *CALLS[place:]]

    found = [read(fields) for fields in decode(encode_batch(bodies)).messages]

    assert what in found.pop(place)
    assert found == [decode(body) for body in CALLS]


def test_one_that_is_nested_as_deep_as_the_writer_goes_is_read():
    value = []
    deepest = encode_result(1, value)
    while True:
        value = [value]
        try:
            deepest = encode_result(1, value)
        except Exception:
            break
    bodies = [CALLS[0], deepest, CALLS[1]]

    found = [message_of(fields) for fields in decode(encode_batch(bodies)).messages]

    assert len(deepest) > 500
    assert encode(found[1]) == deepest
    assert [found[0], found[2]] == [decode(CALLS[0]), decode(CALLS[1])]


@pytest.mark.parametrize(
    "body",
    [
        encode_batch(CALLS)[:-1],
        encode_batch(CALLS) + b"\x01",
        b"\x92\x0d",
        b"\x92\x0d\x05",
        b"\x92\x0d\xdd\xff\xff\xff\xff\x01",
        b"\x92\x0d\x92\x01",
        b"\x92\x0d\x92\x01\xc1",
        b"\x92\x0d\xdc\x00\x02\xc7\x00\x55",
    ],
    ids=["cut off", "one byte more", "no messages", "a number", "a claim", "one missing", "no msgpack", "one of two"],
)
def test_what_is_no_well_formed_batch_is_refused_as_a_whole(body):
    with pytest.raises(ProtocolError):
        decode(body)


@given(st.binary(max_size=60))
def test_whatever_comes_it_is_a_batch_or_refused(junk):
    try:
        batch = decode(b"\x92\x0d" + junk)
    except ProtocolError:
        return
    assert type(batch) is Batch
    for fields in batch.messages:
        read(fields)


def test_a_frame_that_none_of_them_may_have_costs_all(monkeypatch):
    payloads = Payloads(lambda: b"a frame")
    body = encode_batch([CALLS[0], encode_result(1, 2)[:-1] + PLACEHOLDER])

    batch = decode(body, payloads=payloads)

    with pytest.raises(ProtocolError):
        payloads.settle(batch)
    assert payloads.fetched is None


def test_it_can_be_written_by_its_fields():
    batch = Batch([[4, 1, 2], [10, 7]])

    assert encode(batch) == encode_batch([encode(Result(1, 2)), encode(Ping(7))]) == msgpack.packb([13, batch.messages])
