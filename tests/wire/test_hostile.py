"""What a peer may send to hurt a decoder, and what comes of it: a refusal in little time."""

from decimal import Decimal

import pytest

from zmqservices.exceptions import ProtocolError
from zmqservices.wire import batches, codec, envelope
from zmqservices.wire.envelope import LARGEST_CONTROL, decode
from zmqservices.wire.messages import Ack, Error, Hello, Welcome
from zmqservices.wire.quoting import LONGEST_QUOTE, plain, quoted
from zmqservices.wire.serializers import JSON

#: Python's hash of an integer is its remainder by this.
MODULUS = 2**61 - 1


def colliding(count):
    return [number * MODULUS for number in range(9, count + 9)]


# --- many keys with one hash ---


def test_a_map_whose_keys_have_one_hash_is_refused():
    body = codec.pack(dict.fromkeys(colliding(2000)))

    with pytest.raises(ProtocolError, match="same hash"):
        codec.unpack(body)


def test_so_is_a_set():
    with pytest.raises(ProtocolError, match="same hash"):
        codec.unpack(codec.pack(set(colliding(2000))))


@pytest.mark.parametrize(
    "value",
    [
        dict.fromkeys(range(20000)),
        {Decimal(number) / 7: None for number in range(3000)},
        {(number, str(number)) for number in range(3000)},
        [colliding(3000)],
        {"rows": [{"id": number} for number in colliding(3000)]},
    ],
    ids=["whole numbers", "decimals", "tuples", "a list", "maps with few keys"],
)
def test_honest_collections_of_any_size_come_through(value):
    assert codec.unpack(codec.pack(value)) == value


# --- long bodies of kinds that are never long ---


def test_a_long_body_of_a_kind_without_values_is_refused_before_it_is_decoded():
    body = envelope.encode(Ack("group", "journal", 1, [2**63] * (LARGEST_CONTROL // 8)))

    with pytest.raises(ProtocolError, match="takes 262,144 at most"):
        decode(body)


def test_a_batch_of_too_many_messages_is_refused_by_its_header():
    body = b"\x92\x0d\xdd" + (batches.MAX_MESSAGES + 1).to_bytes(4, "big") + b"\xc0" * (batches.MAX_MESSAGES + 1)

    with pytest.raises(ProtocolError, match="a BATCH of 4,097 messages"):
        decode(body)


# --- maps inside of messages ---


@pytest.mark.parametrize(
    "error",
    [
        {"code": ["overloaded"]},
        {"code": {}, "value": "x"},
        {"exc_type": 1},
        {"exc_path": ["os", "system"]},
        {"exc_args": "text"},
        {1: "code"},
        {("a",): 1},
    ],
    ids=str,
)
def test_a_malformed_error_still_ends_its_call(error):
    message = decode(envelope.encode(Error(7, error)))

    assert message.id == 7
    assert message.error["exc_type"] == "ProtocolError"
    assert "the error that came for this call" in message.error["value"]


@pytest.mark.parametrize(
    "info",
    [
        {"services": []},
        {"services": {1: {}}},
        {"services": {"maths": []}},
        {"services": {"maths": {"idempotent": "add"}}},
        {"services": {"maths": {"idempotent": [["add"]]}}},
        {"services": {"maths": {"instances": {}}}},
    ],
    ids=str,
)
def test_a_malformed_description_of_services_is_refused(info):
    with pytest.raises(ProtocolError, match="Welcome"):
        decode(envelope.encode(Welcome(1, 0, "node", "default", info)))


# --- JSON ---


@pytest.mark.parametrize("text", [b"[" * 600 + b"]" * 600, b'{"a":' * 600 + b"1" + b"}" * 600, b"[" * 100_000 + b"]" * 100_000])
def test_json_that_is_nested_too_deep_is_refused(text):
    with pytest.raises(ProtocolError, match="not a json document"):
        JSON.loads(text)


def test_json_may_be_nested_as_deep_as_the_bound():
    assert JSON.loads(b"[" * 400 + b"]" * 400) == JSON.loads(b"[" * 400 + b"]" * 400)


# --- quotes ---


@pytest.mark.parametrize(
    "value", ["a" * 10_000_000, b"a" * 10_000_000, ["a" * 10_000] * 1000, {n: n for n in range(100_000)}, 10**4000],
    ids=["text", "bytes", "list", "map", "number"],
)
def test_a_quote_is_short(value):
    assert len(quoted(value)) < 8 * LONGEST_QUOTE


def test_a_quote_of_what_is_nested_without_end_is_short_too():
    value = []
    for _ in range(100_000):
        value = [value]

    assert len(quoted(value)) < LONGEST_QUOTE


def test_a_quote_stands_on_one_line():
    assert "\n" not in quoted("maths\nERROR: forged") and "\n" not in plain("maths\nERROR: forged")


def test_what_is_short_is_quoted_whole():
    assert (quoted("maths"), plain("maths"), quoted(b"x")) == ("'maths'", "maths", "b'x'")


def test_a_greeting_is_read_as_ever():
    assert decode(envelope.encode(Hello(1, 0, "node", "default", None))).node == "node"
