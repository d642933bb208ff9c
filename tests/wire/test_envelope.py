"""Messages as frames and back, payloads, and bytes that are no message."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.carriers import BIG, CARRIERS
from tests.wire.strategies import texts, values
from zmqservices.exceptions import ProtocolError, UnserializableValueError
from zmqservices.wire import envelope
from zmqservices.wire.envelope import decode, encode, encode_call, encode_event, encode_result
from zmqservices.wire.messages import KINDS, Call, Error, Event, Hello, Ping, Result
from zmqservices.wire.payloads import LARGE, PayloadMissing

counts = st.integers(0, 2**64 - 1)
maps = st.dictionaries(texts, values, max_size=3)
FIELDS = {
    "Count": counts,
    "Seconds": st.floats(-1e9, 1e9),
    "str": texts,
    "bool": st.booleans(),
    "Map": maps,
    "list[str]": st.lists(texts, max_size=3),
    "list[Count]": st.lists(counts, max_size=3),
    "list[Any]": st.lists(values, max_size=3),
    "Any": values,
}


def fields_of(cls):
    for field in dataclasses.fields(cls):
        declared, _, may_be_none = field.type.partition(" | ")
        # Arguments have a shape of their own, and a value with a serializer must be bytes.
        if field.name == "args":
            yield st.lists(values, max_size=3)
        elif field.name == "serializer":
            yield st.none()
        elif may_be_none:
            yield st.none() | FIELDS[declared].filter(bool)
        else:
            yield FIELDS[declared]


messages = st.one_of([st.builds(cls, *fields_of(cls)) for cls in KINDS.values()])


def decoded(frames):
    return decode(*frames) if isinstance(frames, tuple) else decode(frames)


@given(messages)
def test_every_message_comes_back(message):
    assert decoded(encode(message)) == message


@given(counts, texts, texts, st.lists(values, max_size=3), maps, st.none() | st.floats(0, 1e6), maps)
def test_a_call_comes_back(id, service, method, args, kwargs, time_left, headers):
    call = Call(id, service, method, args, kwargs or None, time_left, headers or None)

    frames = encode_call(id, service, method, tuple(args), kwargs, time_left, headers)

    assert decoded(frames) == call
    assert encode(call) == frames


@given(counts, values)
def test_a_result_comes_back(id, value):
    frames = encode_result(id, value)

    assert decoded(frames) == Result(id, value)
    assert encode(Result(id, value)) == frames


@given(
    *(counts, counts, texts, texts, st.none() | texts, counts, st.none() | maps, st.none() | texts, st.none() | counts),
    st.binary(max_size=20) | st.just(bytes(LARGE)),
)
def test_an_event_comes_back(seq, prev_seq, source, type, group, attempt, headers, key, subscription, body):
    event = Event("j", seq, prev_seq, source, type, body, group, attempt, headers, key, "json", 1.5, subscription)

    frames = encode_event("j", seq, prev_seq, source, type, body, group, attempt, headers, key, "json", 1.5, subscription)

    assert decoded(frames) == event
    assert encode(event) == frames


@pytest.mark.parametrize(
    "message",
    CARRIERS,
    ids=lambda message: type(message).__name__,
)
@pytest.mark.parametrize("view", [bytes, bytearray, memoryview], ids=lambda view: view.__name__)
def test_a_large_value_travels_in_a_frame_of_its_own(message, view):
    body, payload = encode(message)

    back = decode(body, view(payload))

    assert payload is BIG
    assert back == message
    for value in (getattr(back, "args", None), getattr(back, "value", None), getattr(back, "chunk", None)):
        assert type(value) in (bytes, list, type(None))
    with pytest.raises(PayloadMissing):
        decode(body)


def test_a_value_just_below_the_limit_and_one_further_inside_stay_in_the_body():
    for value in (BIG[1:], [BIG], (BIG,), bytearray(BIG), {"a": BIG}):
        frames = encode_result(1, value)

        assert type(frames) is bytes
        assert decode(frames).value == value


def test_the_arguments_of_the_caller_are_left_alone():
    args, kwargs = [1, BIG], {"a": BIG}

    encode_call(1, "a", "b", args, kwargs)
    encode_call(1, "a", "b", (), kwargs)

    assert args == [1, BIG]
    assert kwargs == {"a": BIG}


@pytest.mark.parametrize("payload", [1, "text", [b"a"], object()])
def test_a_payload_that_has_no_bytes_is_refused(payload):
    with pytest.raises(ProtocolError):
        decode(encode(Result(1, BIG))[0], payload)


def test_a_payload_frame_that_no_body_announces_is_refused():
    for message in (Call(1, "a", "b", [1], {"c": 2}), Result(1, b"x"), Ping(1), Error(1, {})):
        with pytest.raises(ProtocolError):
            decode(encode(message), b"x")


#: A value of each declared type.
GOOD = {
    "Count": 1, "Seconds": 1.5, "str": "a", "bool": True, "Map": {}, "list[str]": ["a"], "list[Count]": [1],
    "list[Any]": [17], "Any": [],
}  # fmt: skip


@pytest.mark.parametrize("cls", KINDS.values(), ids=lambda cls: cls.__name__)
def test_fields_of_wrong_types_are_refused(cls):
    good = {**GOOD, "Map": {"a": 1}}
    fields = dataclasses.fields(cls)
    right = cls(*[None if field.name == "serializer" else good[field.type.partition(" | ")[0]] for field in fields])
    assert decoded(encode(right)) == right

    for field in fields:
        declared, _, may_be_none = field.type.partition(" | ")
        for wrong in (None, True, -1, 1.5, float("nan"), float("inf"), "a", b"a", [1], (1,), {1: 2}, 2**64):
            fits = {
                "Count": False,
                "Seconds": wrong in (-1, 1.5) or type(wrong) is int,
                "str": wrong == "a",
                "bool": wrong is True,
                "Map": wrong == {1: 2} and field.name != "kwargs",
                "list[str]": False,
                "list[Count]": wrong == [1],
                "list[Any]": wrong == [1],
                "Any": field.name != "args" or wrong == [1],
            }[declared] or (wrong is None and may_be_none)
            if not fits and field.name != "serializer":
                message = dataclasses.replace(right, **{field.name: wrong})
                body = envelope.pack([cls.KIND, *[getattr(message, field.name) for field in fields]])
                with pytest.raises(ProtocolError):
                    decode(body)


@pytest.mark.parametrize("cls", KINDS.values(), ids=lambda cls: cls.__name__)
def test_a_message_with_more_fields_than_known_is_read(cls):
    good = GOOD
    fields = dataclasses.fields(cls)
    values = [None if field.name == "serializer" else good[field.type.partition(" | ")[0]] for field in fields]

    assert decode(envelope.pack([cls.KIND, *values, "new", {"newer": 1}])) == cls(*values)


@pytest.mark.parametrize(
    "message",
    [
        Call(1, "a", "b", [], None, None, None, "json"),
        Call(1, "a", "b", b"[]", {"a": 1}, None, None, "json"),
        Call(1, "a", "b", b"[]"),
        Result(1, "text", "json"),
        Result(1, None, "json"),
        Result(1, b"", 3),
        Event("j", 1, 0, "a", "b", {}, "g", 1, None, None, "json"),
    ],
)
def test_with_a_serializer_values_are_bytes_and_only_then(message):
    names = [field.name for field in dataclasses.fields(message)]

    with pytest.raises(ProtocolError):
        decode(envelope.pack([message.KIND, *[getattr(message, name) for name in names]]))


CALL_FIELDS = [1, "a", "b", [1], {"c": 2}, 1.5, {"d": "e"}]
EVENT_FIELDS = ["j", 2, 1, "a", "b", b"[]", None, 1, {"c": "d"}, None, "json", 1.5, 7]


def event_with(place, value):
    """The fields of an EVENT with its kind, and `value` in this place of them."""
    return [value if index == place else field for index, field in enumerate([16, *EVENT_FIELDS])]


@pytest.mark.parametrize(
    "fields",
    [
        [99, *CALL_FIELDS],
        [0, *CALL_FIELDS],
        [99, 1, 2],
        [3, 2**64, *CALL_FIELDS[1:]],
        [3, -1, *CALL_FIELDS[1:]],
        [3, True, *CALL_FIELDS[1:]],
        [3, 1, b"a", *CALL_FIELDS[2:]],
        [3, 1, "a", None, *CALL_FIELDS[3:]],
        [3, 1, "a", "b", (1,), *CALL_FIELDS[4:]],
        [3, 1, "a", "b", [], {3: 4}, *CALL_FIELDS[5:]],
        [3, 1, "a", "b", [], [], *CALL_FIELDS[5:]],
        [3, 1, "a", "b", [], None, float("nan"), {}],
        [3, 1, "a", "b", [], None, 1e18, {}],
        [3, 1, "a", "b", [], None, "1", {}],
        [3, 1, "a", "b", [], None, None, [1]],
        [4, -1, 2],
        [4, 2**64, 2],
        [4, 1.0, 2],
        [4, None, 2],
        *(event_with(place, -1) for place in (2, 3, 8, 13)),
        *(event_with(place, 2**64) for place in (2, 3, 8, 13)),
        *(event_with(place, True) for place in (2, 3, 8, 13)),
        *(event_with(place, None) for place in (1, 2, 3, 4, 5, 8)),
        *(event_with(12, value) for value in (1e18, -1e18, float("nan"), "1")),
        event_with(6, "[]"),
        event_with(9, ["c"]),
        event_with(11, b"json"),
        event_with(0, 99),
    ],
    ids=repr,
)
def test_the_short_path_of_calls_results_and_events_checks_as_the_long_one_does(fields):
    with pytest.raises(ProtocolError):
        decode(envelope.pack(fields))


def test_the_short_path_and_the_long_one_read_the_same():
    # An unknown field at the end leads to the long path.
    for fields in ([3, *CALL_FIELDS], [4, 1, 2], [16, *EVENT_FIELDS]):
        assert decode(envelope.pack(fields)) == decode(envelope.pack([*fields, None, None, "new"]))

    assert decode(envelope.pack([3, *CALL_FIELDS])) == Call(*CALL_FIELDS)
    assert decode(envelope.pack([16, *EVENT_FIELDS])) == Event(*EVENT_FIELDS)
    assert decode(envelope.pack([16, *EVENT_FIELDS[:-1]])) == Event(*EVENT_FIELDS[:-1])


def test_numbers_that_are_equal_to_a_kind_are_not_one():
    for kind in (True, 3.0, 4.0, "3", None, [3], {3: 3}):
        for rest in ([1, "a", "b", [], None, None, {}], [1, 2]):
            with pytest.raises(ProtocolError):
                decode(envelope.pack([kind, *rest]))


def test_an_argument_that_cannot_travel_is_named():
    culprit = object()

    for frames in (lambda: encode_call(1, "a", "b", (1, [culprit])), lambda: encode_result(1, {"a": culprit})):
        with pytest.raises(UnserializableValueError) as caught:
            frames()
        assert caught.value.args == (culprit,)


def test_for_a_nesting_without_end_the_value_is_named_and_not_the_envelope():
    loop = []
    loop.append(loop)

    with pytest.raises(UnserializableValueError, match=r"`\[\[\.\.\.\]\]`"):
        encode_result(1, loop)


@given(st.binary(max_size=100), st.none() | st.binary(max_size=3))
def test_arbitrary_frames_are_a_message_or_refused(body, payload):
    try:
        decode(body, payload)
    except ProtocolError:
        pass


@given(st.lists(values, max_size=10), st.sampled_from(list(KINDS)), st.none() | st.binary(max_size=3))
def test_arbitrary_fields_are_a_message_or_refused(fields, kind, payload):
    try:
        message = decode(envelope.pack([kind, *fields]), payload)
    except ProtocolError:
        pass
    else:
        assert type(message) is KINDS[kind]


@given(messages, st.data())
def test_a_mutated_message_is_a_message_or_refused(message, data):
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    for payload in (None, b"x"):
        try:
            decode(bytes(raw), payload)
        except ProtocolError:
            pass


def test_messages_are_compared_and_shown_by_their_fields():
    assert Ping(1) == Ping(1) != Ping(2)
    assert repr(Hello(1, 0, "n", "default")) == "Hello(major=1, minor=0, node='n', namespace='default', info=None)"
    for cls in KINDS.values():
        assert not hasattr(cls, "__dict__") or "__slots__" in vars(cls)
