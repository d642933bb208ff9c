"""What travels and comes back as it was, and what is refused."""

import collections
import enum
import math
import threading
import tracemalloc
from datetime import datetime, time, timedelta
from decimal import Decimal, localcontext
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.strategies import values
from zmqservices.exceptions import ProtocolError, UnserializableValueError
from zmqservices.wire import codec
from zmqservices.wire.codec import pack, unpack
from zmqservices.wire.envelope import decode, encode_result


def same(one, other):
    """Equal, of the same types all the way down, and with the same offsets from UTC."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, (datetime, time)):
        return (one.utcoffset(), one.fold, one.isoformat()) == (other.utcoffset(), other.fold, other.isoformat())
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, float):
        return math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, (list, tuple)):
        return all(map(same, one, other))
    if isinstance(one, dict):
        # The order of a map's keys survives, too.
        return all(map(same, one, other)) and all(map(same, one.values(), other.values()))
    if isinstance(one, (set, frozenset)):
        return sorted(map(kind_and_text, one)) == sorted(map(kind_and_text, other))
    return True


def kind_and_text(value):
    if isinstance(value, frozenset):
        return ("frozenset", str(sorted(map(kind_and_text, value))))
    if isinstance(value, tuple):
        return ("tuple", str([kind_and_text(item) for item in value]))
    return (type(value).__name__, repr(value))


@given(values)
@example([0, -1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**4000])
@example({2**64: -(2**70), (2**65, 1): {2**66}})
@example([-0.0, math.inf, -math.inf])
@example([True, 1, 1.0, Decimal("1"), Decimal("1.0"), Decimal("-0")])
@example({True: 0, 2: 0, 3.0: 0, "4": 0, b"5": 0, None: 0})
def test_a_value_comes_back_as_it_was(value):
    assert same(unpack(pack(value)), value)


def test_what_is_not_a_number_stays_so():
    assert math.isnan(unpack(pack(math.nan)))
    assert str(unpack(pack([Decimal("NaN"), Decimal("-sNaN123")]))) == "[Decimal('NaN'), Decimal('-sNaN123')]"


def test_a_datetime_with_a_zone_keeps_its_offset_and_its_moment():
    zone = ZoneInfo("Europe/Berlin")
    first = datetime(2024, 10, 27, 2, 30, tzinfo=zone)
    second = first.replace(fold=1)
    summer = datetime(2024, 7, 1, 12, tzinfo=zone)

    back = unpack(pack([first, second, summer]))

    assert [value.utcoffset() for value in back] == [timedelta(hours=2), timedelta(hours=1), timedelta(hours=2)]
    assert [value.fold for value in back] == [0, 1, 0]
    assert [value.timestamp() for value in back] == [value.timestamp() for value in (first, second, summer)]
    assert back[2] == summer


def test_a_decimal_number_is_exact_whatever_the_context():
    number = Decimal("1." + "123456789" * 20)

    with localcontext(prec=3, capitals=0, traps=[]):
        assert unpack(pack([number, Decimal("1E+400")])) == [number, Decimal("1E+400")]
        with pytest.raises(ProtocolError):
            unpack(b"\xc7\x16\x08" + b"1E99999999999999999999")


class Colour(enum.IntEnum):
    RED = 7


class Shade(enum.StrEnum):
    DARK = "dark"


class Old(str, enum.Enum):  # noqa: UP042 - its text is not its value
    ONE = "one"


class Text(str):
    def __str__(self):
        return "something else"


class Number(int):
    def __int__(self):
        return 99

    __index__ = __int__


class Raw(bytes):
    def __bytes__(self):
        return b"something else"


class Array(bytearray):
    pass


class Moment(datetime):
    pass


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value, plain",
    [
        (Colour.RED, 7),
        (Shade.DARK, "dark"),
        (Old.ONE, "one"),
        (Text("a"), "a"),
        (Number(2), 2),
        (Number(2**70), 2**70),
        (Raw(b"a"), b"a"),
        (type("Real", (float,), {})(1.5), 1.5),
        (Array(b"a"), b"a"),
        (bytearray(b"a"), b"a"),
        (memoryview(b"abc")[1:], b"bc"),
        (Point(1, 2), (1, 2)),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aa"), {"a": 2}),
        (type("List", (list,), {})([1]), [1]),
        (type("Set", (set,), {})([1]), {1}),
        (type("Frozen", (frozenset,), {})([1]), frozenset([1])),
        (Moment(2024, 2, 29), datetime(2024, 2, 29)),
        ({Colour.RED: Shade.DARK}, {7: "dark"}),
    ],
)
def test_a_subclass_travels_as_its_builtin(value, plain):
    assert same(unpack(pack(value)), plain)
    assert same(unpack(pack((value,))), (plain,))


class Unwilling(dict):
    def keys(self):
        raise LookupError("not now")

    __iter__ = keys


class NoText:
    def __repr__(self):
        raise LookupError("not now")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        (number for number in [1]),
        1j,
        range(3),
        {}.keys(),
        "\ud800",
        Unwilling(a=1),
        NoText(),
        type,
        time(1, tzinfo=ZoneInfo("Europe/Berlin")),
        collections.deque(),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize(
    "wrap",
    [lambda v: v, lambda v: [v], lambda v: {"a": (1, [v])}, lambda v: {1: [((v,),)]}],
    ids=["alone", "in a list", "in a tuple", "in tuples"],
)
def test_what_cannot_travel_is_refused_by_name(value, wrap):
    with pytest.raises(UnserializableValueError) as caught:
        pack(wrap(value))

    assert caught.value.args[0] is value
    assert "Unserializable value: `" in str(caught.value)


def test_a_key_that_cannot_travel_is_refused():
    key = object()

    with pytest.raises(UnserializableValueError) as caught:
        pack({key: 1})

    assert caught.value.args == (key,)


def test_after_a_refusal_the_next_value_travels():
    for _ in range(3):
        with pytest.raises(UnserializableValueError):
            pack(["left over", (1, object())])

        assert unpack(pack([1, (2,)])) == [1, (2,)]


def loop_of_lists():
    loop = []
    loop += [loop, loop]
    return loop


def loop_of_dicts():
    loop = {}
    loop["a"] = loop["b"] = loop
    return loop


def loop_through_tuples():
    loop = []
    loop += [(loop, (loop,))]
    return loop


def loop_through_a_value_in_a_tuple():
    inner = {}
    inner["a"] = [inner, inner]
    return (inner,)


@pytest.mark.parametrize("make", [loop_of_lists, loop_of_dicts, loop_through_tuples, loop_through_a_value_in_a_tuple])
def test_a_value_that_holds_itself_is_refused(make):
    with pytest.raises(UnserializableValueError):
        pack(make())


def nested(levels, wrap):
    value = 0
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda v: (v,), lambda v: frozenset([v])], ids=["tuples", "frozensets"])
def test_nesting_of_tuples_has_a_bound(wrap):
    deep = nested(codec.MAX_EXTENSION_NESTING, wrap)

    assert unpack(pack(deep)) == deep
    with pytest.raises(UnserializableValueError):
        pack(wrap(deep))


@pytest.mark.parametrize(
    "wrap",
    [lambda v: [v], lambda v: {"a": v}, lambda v: [0, v], lambda v: {0: 1, 2: v, 3: 4}],
    ids=["arrays", "maps", "longer arrays", "longer maps"],
)
@pytest.mark.parametrize("innermost", [0, [], {}], ids=repr)
def test_what_is_not_nested_too_deep_to_be_sent_is_not_too_deep_to_be_read(wrap, innermost):
    value, levels = innermost, 0
    while levels < 500:
        value, levels = wrap(value), levels + 1
    while levels < 2000:
        try:
            body = encode_result(1, value)
        except UnserializableValueError:
            break
        decode(body)
        value, levels = wrap(value), levels + 1

    assert 500 <= levels < 2000


def test_bytes_after_the_end_of_a_deep_array_are_refused():
    # msgpack's reader refuses these levels; another one reads the items of the outermost array.
    deep = b"\x93\x04\x01" + b"\x91" * 1023 + b"\x90"

    assert decode(deep).id == 1
    for wrong in (deep + b"\x00", deep[:-1], b"\x92" + deep[1:], b"\x94" + deep[1:], b"\x91\x91" + deep):
        with pytest.raises(ProtocolError):
            decode(wrong)


def test_deep_arrays_in_deep_tuples_do_not_exhaust_the_stack():
    deep = nested(20, lambda value: (nested(100, lambda inner: [inner]), value))
    too_deep = nested(31, lambda value: (nested_around(value, 100),))
    results = []

    def run():
        results.append(unpack(pack(deep)) == deep)
        with pytest.raises(UnserializableValueError):
            pack(too_deep)
        results.append(True)

    before = threading.stack_size(2 * 1024 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()

    assert results == [True, True]


def nested_around(value, levels):
    for _ in range(levels):
        value = [value]
    return value


def test_bytes_nested_deeper_than_the_bounds_are_refused():
    tuples = b"\x90"
    for _ in range(codec.MAX_EXTENSION_NESTING + 1):
        tuples = b"\xc8" + len(tuples).to_bytes(2, "big") + b"\x01" + tuples
        tuples = b"\x91" + tuples

    for raw in (b"\x91" * 5000 + b"\x90", b"\x81\x01" * 5000 + b"\x90", tuples[1:]):
        with pytest.raises(ProtocolError):
            unpack(raw)


@pytest.mark.parametrize(
    "raw",
    [
        # Each array claims less than there are bytes: only all of them together claim too much.
        b"\xdc\x7f\xff" * 20_000,
        b"\xdd\x00\x00\xc0\x00" * 12_000,
        b"\xdd\xff\xff\xff\xff" * 12_000,
        b"\xdf\x00\x00\x7f\xff" * 12_000,
        b"\xdc\x03\xff" * 341,
        b"\x91\xc9\x00\x00\xc3\x50\x01" + (b"\xdc\x7f\xff" * 16_667)[:50_000],
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ],
    ids=["arrays", "long arrays", "absurd arrays", "maps", "few bytes", "in a tuple", "bytes", "text", "extension"],
)
def test_a_few_bytes_cannot_ask_for_much_memory(raw):
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            unpack(raw)
        with pytest.raises(ProtocolError):
            decode(raw)
        with pytest.raises(ProtocolError):
            decode(memoryview(raw))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 5_000_000


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_value_or_refused(raw):
    try:
        unpack(raw)
    except ProtocolError:
        pass


@given(values, st.data())
def test_a_mutated_value_is_a_value_or_refused(value, data):
    raw = bytearray(pack(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))

    for mutated in (bytes(raw), bytes(raw[:cut]), bytes(raw) + b"\x00"):
        try:
            unpack(mutated)
        except ProtocolError:
            pass


def test_packing_from_many_threads_and_from_within_does_not_mix_values():
    class Lazy(dict):
        """Packs something else while it is packed, as a value that loads itself from a service would."""

        def keys(self):
            assert unpack(pack([1, (2, {3})])) == [1, (2, {3})]
            return super().keys()

        def __iter__(self):
            return iter(self.keys())

    wrong = []

    def run(number):
        for _ in range(200):
            value = [Lazy(a=number), (Lazy(b=number),)]
            if unpack(pack(value)) != [{"a": number}, ({"b": number},)]:
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
