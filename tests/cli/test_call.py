"""Arguments from the command line, and results as JSON."""

import datetime
import decimal
import json
import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqservices.cli.call import parse_arguments, parse_method
from zmqservices.cli.jsontext import to_json
from zmqservices.exceptions import CommandError

ROWS = [
    (["2", "3"], [2, 3], {}),
    (["world"], ["world"], {}),
    (['"5"', '"a=b"'], ["5", "a=b"], {}),
    (["true", "null", "1.5"], [True, None, 1.5], {}),
    (["[1, {}]"], [[1, {}]], {}),
    (["item=tea", "count=3", 'tags=["green"]'], [], {"item": "tea", "count": 3, "tags": ["green"]}),
    (["a=", "b=c=d"], [], {"a": "", "b": "c=d"}),
    (["2=3", "a b=c", "=x"], ["2=3", "a b=c", "=x"], {}),
    (["NaN", "Infinity", "-Infinity"], ["NaN", "Infinity", "-Infinity"], {}),
    (["-1"], [-1], {}),
    (["[" * 100_000], ["[" * 100_000], {}),
    ([""], [""], {}),
    (["tcp://a:1?x=1"], ["tcp://a:1?x=1"], {}),
    (["übung=x"], [], {"übung": "x"}),
]


@pytest.mark.parametrize(("arguments", "args", "kwargs"), ROWS, ids=[str(row[0])[:40] for row in ROWS])
def test_an_argument_that_is_not_json_is_text(arguments, args, kwargs):
    assert parse_arguments(arguments) == (args, kwargs)


@given(st.text())
def test_any_text_can_be_an_argument(text):
    args, kwargs = parse_arguments([text])

    assert len(args) + len(kwargs) == 1


def test_all_arguments_in_one_document():
    assert parse_arguments([], "[2, 3]") == ([2, 3], {})
    assert parse_arguments([], '{"a": 1}') == ([], {"a": 1})


def test_a_document_together_with_other_arguments_is_refused():
    for beside in ("4", "b=2"):
        with pytest.raises(CommandError, match=f"--json-args must have all arguments, but there is '{beside}' as well"):
            parse_arguments([beside], "[2, 3]")


@pytest.mark.parametrize("text", ["5", '"a"', "[1", "", "null"])
def test_a_document_that_is_neither_list_nor_object_is_refused(text):
    with pytest.raises(CommandError, match="--json-args is"):
        parse_arguments([], text)


def test_a_service_name_may_have_dots():
    assert parse_method("maths.add") == ("maths", "add")
    assert parse_method("shop.orders.make") == ("shop.orders", "make")


@pytest.mark.parametrize("text", ["", "maths", ".add", "maths."])
def test_a_target_without_a_method_is_refused(text):
    with pytest.raises(CommandError, match="is not of the form SERVICE.METHOD"):
        parse_method(text)


VALUES = [
    (5, 5),
    (None, None),
    ("ü", "ü"),
    ((1, (2,)), [1, [2]]),
    ({3, 1, 2}, [1, 2, 3]),
    ({1: "a", (1, 2): "b", None: "c", "d": 1}, {"1": "a", "[1, 2]": "b", "null": "c", "d": 1}),
    (datetime.datetime(2024, 2, 29, 12, 30), "2024-02-29T12:30:00"),
    (datetime.date(2024, 2, 29), "2024-02-29"),
    (datetime.timedelta(seconds=90), "0:01:30"),
    (decimal.Decimal("1.10"), "1.10"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (b"\xff\x00", "/wA="),
    (math.inf, "inf"),
    (2**70, 2**70),
]


@pytest.mark.parametrize(("value", "plain"), VALUES, ids=[str(row[0]) for row in VALUES])
def test_every_value_has_a_json_form(value, plain):
    assert json.loads(to_json(value)) == plain


def test_text_is_printed_unquoted():
    assert to_json("ü") == '"ü"'
