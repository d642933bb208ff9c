"""A payload frame that is fetched in the midst of its body: the same messages, and the same refusals, as with both at hand."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.carriers import BIG, CARRIERS
from tests.wire.strategies import values
from zmqservices.exceptions import ProtocolError
from zmqservices.wire import envelope
from zmqservices.wire.codec import PLACEHOLDER
from zmqservices.wire.envelope import decode, encode
from zmqservices.wire.messages import KINDS, Call, Hello, Result
from zmqservices.wire.payloads import LARGE, PayloadMissing, Payloads

NESTED = [[[]]]
for _ in range(520):
    NESTED = [NESTED]


def fetching(body, payload, call_class=Call):
    """What `decode` and `Payloads` make of the two frames, and the bytes that the payload counts for."""
    frames = [payload]
    payloads = Payloads(lambda: frames.pop() if frames else None)
    size = 0
    try:
        message = decode(body, None, call_class, payloads)
        if payloads.fetched is not None:
            size = payloads.settle(message)
    finally:
        assert payloads.fetched is None
    if frames:
        raise ProtocolError("a payload frame came, and the body has no place for it")
    return message, size


def both_ways(body, payload):
    outcomes = []
    for way in (decode, lambda *frames: fetching(*frames)[0]):
        try:
            outcomes.append(way(body, payload))
        except ProtocolError:
            outcomes.append(ProtocolError)
    return outcomes


@pytest.mark.parametrize(
    "message",
    [*CARRIERS, Call(1, "a", "b", [NESTED, BIG])],
    ids=lambda message: type(message).__name__,
)
def test_it_is_put_where_the_body_announces_it(message):
    assert fetching(*encode(message)) == (message, LARGE)


def test_a_body_that_announces_none_fetches_none():
    def take():
        raise AssertionError("nobody asked for it")

    payloads = Payloads(take)

    assert decode(encode(Result(1, b"small")), None, Call, payloads) == Result(1, b"small")
    assert payloads.fetched is None


def test_one_that_is_announced_and_does_not_come_is_missing():
    payloads = Payloads(lambda: None)

    with pytest.raises(PayloadMissing):
        decode(encode(Result(1, BIG))[0], None, Call, payloads)
    # What comes next is read as if nothing had been.
    assert decode(encode(Result(1, 2)), None, Call, payloads) == Result(1, 2)


@pytest.mark.parametrize(
    "fields",
    [
        [3, 1, "a", "b", [PLACEHOLDER, PLACEHOLDER]],
        [3, 1, "a", "b", [PLACEHOLDER], {"c": PLACEHOLDER}],
        [3, 1, "a", "b", [[PLACEHOLDER]]],
        [3, 1, "a", "b", [], {"c": [PLACEHOLDER]}],
        [3, 1, "a", "b", [], None, None, {"d": PLACEHOLDER}],
        [3, 1, "a", "b", PLACEHOLDER],
        [3, 1, PLACEHOLDER, "b", []],
        [3, PLACEHOLDER, "a", "b", []],
        [3, 1, "a", "b", [(PLACEHOLDER,)]],
        [4, 1, [PLACEHOLDER]],
        [4, 1, {PLACEHOLDER: 1}],
        [4, 1, PLACEHOLDER, PLACEHOLDER],
        [4, 1, PLACEHOLDER, None, PLACEHOLDER],
        [4, PLACEHOLDER, 1],
        [Hello.KIND, 1, 0, "n", "default", {"a": PLACEHOLDER}],
        [PLACEHOLDER],
        PLACEHOLDER,
    ],
    ids=lambda fields: repr(fields).replace(repr(PLACEHOLDER), "*"),
)
def test_a_second_place_or_a_wrong_one_is_refused(fields):
    assert both_ways(envelope.pack(fields), b"x") == [ProtocolError, ProtocolError]


@pytest.mark.parametrize("announced", ["c7011000", "d41000", "c7021041" + "41"])
def test_a_place_that_holds_data_is_refused(announced):
    body = b"\x93\x04\x01" + bytes.fromhex(announced)

    assert both_ways(body, b"x") == [ProtocolError, ProtocolError]


places = st.recursive(
    st.just(PLACEHOLDER) | values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from(list(KINDS)), st.lists(places, max_size=8), st.binary(min_size=2, max_size=3))
@example(3, [1, "a", "b", [PLACEHOLDER], None, 1.0, {"c": "d"}], b"xy")
@example(4, [1, PLACEHOLDER], b"")
def test_arbitrary_fields_are_read_alike_both_ways(kind, fields, payload):
    with_both, fetched = both_ways(envelope.pack([kind, *fields]), payload)

    assert repr(with_both) == repr(fetched)


@given(st.data())
def test_mutated_bodies_are_read_alike_both_ways(data):
    message = data.draw(st.sampled_from([Call(1, "a", "b", [1, BIG], {"c": 2}, 1.0, {"d": "e"}), Result(1, BIG)]))
    raw = bytearray(encode(message)[0])
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    with_both, fetched = both_ways(bytes(raw), b"xy")

    assert repr(with_both) == repr(fetched)
