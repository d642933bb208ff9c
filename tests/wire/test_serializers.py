"""Serializers by name: what JSON carries, what settings add, and what is refused."""

import math
from collections import namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqservices import config, serialization
from zmqservices.exceptions import ConfigurationError, ProtocolError, UnserializableValueError
from zmqservices.wire.serializers import get_serializer

JSON = get_serializer("json")


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "ü"]},
        datetime(2024, 2, 29, 13, 14, 15, 16),
        datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=2))),
        date(2024, 2, 29),
        time(13, 14),
        Decimal("1.50"),
        UUID(int=7),
        b"text",
        b"\x00\xff",
        "\ud800",
        2**70,
        {"__type__": "unheard of", "__value__": 1},
        {"bytes": "text", "other": True},
    ],
    ids=repr,
)
def test_json_brings_back_a_value_with_its_type(value):
    [back] = JSON.loads(JSON.dumps([value]))

    assert back == value
    assert type(back) is type(value)


def test_json_has_fewer_types():
    point = namedtuple("Point", "x y")(1, 2)

    assert JSON.loads(JSON.dumps([(1, 2), {3: 4, None: 5}, point])) == [[1, 2], {"3": 4, "null": 5}, [1, 2]]
    assert math.isnan(JSON.loads(JSON.dumps(math.nan)))


def test_json_is_spelled_as_other_peers_spell_it():
    assert JSON.dumps([date(2024, 2, 29), b"a", b"\xff"]) == (
        b'[{"__type__":"date","__value__":"2024-02-29"},{"bytes":"a","__bytes__":true},'
        b'{"bytes":"/w==","__base64__":true}]'
    )
    assert JSON.loads(b'{"__type__":"date","__value__":"2024-02-29T00:00:00"}') == date(2024, 2, 29)


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_what_cannot_travel_is_refused(name):
    serializer = get_serializer(name)
    loop = []
    loop.append(loop)

    for value in (object(), (number for number in []), loop, {"a": object()}):
        with pytest.raises(UnserializableValueError):
            serializer.dumps(value)


def test_json_refuses_sets_and_keys_that_are_no_texts():
    for value in ({1}, frozenset(), {(1, 2): 3}, timedelta(1)):
        with pytest.raises(UnserializableValueError):
            JSON.dumps(value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"1" * 5_000,
        b'{"__type__":"date","__value__":"never"}',
        b'{"__type__":"date","__value__":3}',
        b'{"__type__":"decimal","__value__":"x"}',
        b'{"__type__":[],"__value__":1}',
        b'{"__type__":"uuid","__value__":{}}',
        b'{"bytes":1,"__bytes__":true}',
        b'{"bytes":"?","__base64__":true}',
    ],
    ids=lambda raw: str(raw[:30]),
)
def test_json_refuses_what_it_cannot_read(raw):
    with pytest.raises(ProtocolError):
        JSON.loads(raw)


@given(st.binary())
def test_arbitrary_bytes_are_a_document_or_refused(raw):
    for name in ("json", "msgpack"):
        try:
            get_serializer(name).loads(raw)
        except ProtocolError:
            pass


def shout(value):
    return str(value).upper()


def whisper(text):
    assert type(text) is str
    return text.lower()


def reverse(value):
    return bytes(reversed(value))


TEXT = {"encoder": f"{__name__}.shout", "decoder": f"{__name__}.whisper"}
BINARY = {"encoder": f"{__name__}.reverse", "decoder": f"{__name__}:reverse", "content_encoding": "binary"}


def test_settings_add_a_serializer_of_texts():
    serializer = get_serializer("loud", {"loud": TEXT})

    assert serializer.name == "loud"
    assert serializer.dumps("ä") == "Ä".encode()
    assert serializer.loads("Ä".encode()) == "ä"


def test_settings_add_a_serializer_of_bytes():
    serializer = get_serializer("backwards", {"backwards": BINARY})

    assert serializer.dumps(b"ab") == b"ba"
    assert serializer.loads(b"ba") == b"ab"
    with pytest.raises(UnserializableValueError):
        serializer.dumps(3)
    with pytest.raises(ProtocolError):
        serializer.loads(None)


@pytest.mark.parametrize(
    "settings, quoted",
    [
        (None, "'json', 'msgpack'"),
        ({"loud": TEXT}, "'json', 'loud', 'msgpack'"),
        ({"odd": None}, "an encoder and a decoder are needed"),
        ({"odd": {"encoder": "json.dumps"}}, "an encoder and a decoder are needed"),
        ({"odd": {"encoder": "no.such.module", "decoder": "json.loads"}}, "cannot be imported"),
        ({"odd": {"encoder": 3, "decoder": "json.loads"}}, "cannot be imported"),
        ({"odd": {"encoder": "json.encoder", "decoder": "json.loads"}}, "not a function"),
        ("odd", "a mapping"),
    ],
)
def test_an_unknown_or_broken_serializer_is_an_error_of_the_configuration(settings, quoted):
    with pytest.raises(ConfigurationError, match=quoted):
        get_serializer("odd", settings)


def test_setup_tells_what_to_speak_and_what_to_accept():
    assert serialization.setup({}) == ("msgpack", ["msgpack"])
    assert serialization.setup({"serializer": "json"}) == ("json", ["json"])
    assert serialization.setup({"serializer": "loud", "SERIALIZERS": {"loud": TEXT}, "ACCEPT": ["json", "loud"]}) == (
        "loud",
        ["json", "loud"],
    )


def test_setup_without_settings_takes_those_of_the_process():
    with config.patch({"serializer": "json"}):
        assert serialization.setup() == ("json", ["json"])


@pytest.mark.parametrize(
    "settings", [{"serializer": "odd"}, {"ACCEPT": ["odd"]}, {"ACCEPT": "json"}, {"serializer": 3}]
)
def test_setup_refuses_what_nobody_knows(settings):
    with pytest.raises(ConfigurationError, match="odd|json|3"):
        serialization.setup(settings)
