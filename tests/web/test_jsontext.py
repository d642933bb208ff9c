"""JSON from clients is read with bounds, and any text gets an answer."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.at_random import examples
from zmqservices.exceptions import BadRequest, IncorrectSignature, MethodNotFound
from zmqservices.web import jsontext
from zmqservices.web.websocket import messages


def nested(depth, opening="[", closing="]"):
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize(
    "text",
    [
        "1e999", "-1e999", '{"a": [1e400]}', nested(101), nested(1000), nested(5000), nested(500_000), "[" * 500_000,
        nested(101, '{"a":', "}"), "1" * 5000, "", "{", '"\t"', "\x00",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_json_that_is_refused(text):
    with pytest.raises(ValueError):
        jsontext.loads(text)
    with pytest.raises(ValueError):
        jsontext.loads(text.encode())


@pytest.mark.parametrize("text", [nested(100), "[" + "[]," * 1000 + "{}]", "1e308", "-0.0", '"' + "[" * 1000 + '"', '"\\ud800"'])
def test_json_that_is_accepted_can_be_written_again(text):
    value = jsontext.loads(text)

    assert jsontext.loads(json.dumps(value, allow_nan=False)) == value
    assert jsontext.loads(text.encode()) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=examples(60), deadline=None)
@given(st.one_of(st.text(), json_values.map(json.dumps), st.dictionaries(
    st.sampled_from(["method", "data", "correlation_id", "more"]), json_values).map(json.dumps),
))  # fmt: skip
def test_any_message_is_a_call_or_a_bad_call_and_either_can_be_answered(text):
    try:
        call = messages.read_call(text)
    except messages.BadCall as exc:
        answer = json.loads(messages.refusal(exc, exc.correlation_id))
        assert answer["error"]["exc_type"] == "MalformedRequest"
        assert len(answer["error"]["value"]) < 1100
    else:
        answer = json.loads(messages.result(1, call.correlation_id))
        assert answer["correlation_id"] == call.correlation_id


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError

    @property
    def args(self):
        raise RuntimeError


LOOP = {}
LOOP["loop"] = LOOP


@pytest.mark.parametrize(
    "exc", [ValueError(float("inf")), ValueError(LOOP), ValueError(object()), Unspeakable(), ValueError("\ud800"), KeyError()]
)
@pytest.mark.parametrize("correlation_id", ["1", None, float("inf"), object(), LOOP])
def test_an_error_can_always_be_sent(exc, correlation_id):
    for expected in ((), Exception):
        answer = json.loads(messages.error(exc, expected, correlation_id))
        assert answer["error"]["exc_type"] == type(exc).__name__
    assert json.loads(messages.refusal(exc, correlation_id))["success"] is False


@pytest.mark.parametrize("kind", [MethodNotFound, IncorrectSignature, BadRequest])
def test_a_quoted_call_is_cut(kind):
    answer = json.loads(messages.refusal(kind("x" * 10**6), "1"))

    assert answer["error"]["exc_type"] == kind.__name__
    assert len(answer["error"]["value"]) <= 1000 and len(answer["error"]["exc_args"][0]) <= 1000
