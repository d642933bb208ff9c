"""The vectors of docs/protocol-vectors.json, both ways: what is specified is what is spoken."""

import dataclasses

import pytest

from tests.wire.notation import load_vectors, value_of
from zmqservices.exceptions import ProtocolError
from zmqservices.wire import codec, envelope, messages, topics

VECTORS = load_vectors()
CLASSES = {cls.__name__.upper(): cls for cls in messages.KINDS.values()}


def name_of(vector):
    return vector.get("name") or vector["kind"]


def message_of(vector):
    return CLASSES[vector["kind"]](**{name: value_of(value) for name, value in vector["fields"].items()})


def frames_of(vector):
    body = bytes.fromhex(vector["body"])
    return (body, value_of(vector["payload"])) if "payload" in vector else body


def decoded(frames):
    return envelope.decode(*frames) if isinstance(frames, tuple) else envelope.decode(frames)


def test_the_version_is_the_one_of_the_specification():
    assert VECTORS["version"] == [messages.MAJOR, messages.MINOR]


def test_the_kinds_are_those_of_the_specification():
    kinds = {
        name: {"number": cls.KIND, "fields": [[field.name, field.type] for field in dataclasses.fields(cls)]}
        for name, cls in CLASSES.items()
    }

    assert kinds == VECTORS["kinds"]
    assert {vector["kind"] for vector in VECTORS["messages"]} == set(kinds)


@pytest.mark.parametrize("vector", VECTORS["values"], ids=name_of)
def test_a_value_is_these_bytes_and_these_bytes_are_the_value(vector):
    value, raw = value_of(vector["value"]), bytes.fromhex(vector["bytes"])

    assert codec.pack(value) == raw
    # By their texts: a NaN is not equal to itself, and 1 is equal to True.
    assert repr(codec.unpack(raw)) == repr(value)


@pytest.mark.parametrize("vector", VECTORS["values_also_read"], ids=name_of)
def test_another_spelling_of_a_value_is_read(vector):
    assert codec.unpack(bytes.fromhex(vector["bytes"])) == value_of(vector["value"])


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=name_of)
def test_a_message_is_these_frames_and_these_frames_are_the_message(vector):
    message, frames = message_of(vector), frames_of(vector)

    assert envelope.encode(message) == frames
    assert decoded(frames) == message


@pytest.mark.parametrize("vector", VECTORS["messages_also_read"], ids=name_of)
def test_another_spelling_of_a_message_is_read(vector):
    assert decoded(frames_of(vector)) == message_of(vector)


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=name_of)
def test_what_is_no_message_is_refused(vector):
    with pytest.raises(ProtocolError):
        decoded(frames_of(vector))


@pytest.mark.parametrize("vector", VECTORS["topics"], ids=lambda vector: f"{vector['pattern']} {vector['type']}")
def test_a_pattern_matches_what_the_specification_says(vector):
    assert topics.compile(vector["pattern"]).matches(vector["type"]) is vector["matches"]
