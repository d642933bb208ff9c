"""Rules of the client of Consul that need no server: keys of an answer, indexes, and which queries there are."""

import json

import pytest

from discovery.backends.consul import queries
from discovery.backends.consul.key_values import KeyValue, decode_keys, next_index
from discovery.backends.consul.queries import BlockingQuery, widened

PREFIXES = ("shop/records/", "shop/subscribers/")


@pytest.mark.parametrize(
    ("text", "former", "index"),
    [
        pytest.param("7", 3, 7, id="it goes on"),
        pytest.param("3", 3, 3, id="nothing has changed"),
        pytest.param("2", 3, 0, id="it goes back after a snapshot was restored"),
        pytest.param("0", 0, 1, id="Consul wants 1 at least"),
    ],
)
def test_the_next_index(text, former, index):
    assert next_index(text, former) == index


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5", "\u0661"])
def test_an_index_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="a number is needed"):
        next_index(text, 0)


def test_keys_are_read_from_an_answer():
    items = [{"Key": "a", "ModifyIndex": 3, "Session": "s", "Value": "eA=="}, {"Key": "b", "Session": None, "Value": None}]

    first, second = decode_keys(json.dumps(items).encode())

    assert (first.key, first.index, first.session, first.value) == ("a", 3, "s", b"x")
    assert (second.key, second.index, second.session, second.value) == ("b", 0, "", b"")


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"Key": 1}]', b"\xff"])
def test_an_answer_without_keys_is_refused(body):
    with pytest.raises(ValueError):
        decode_keys(body)


def test_a_value_that_is_not_base64_is_empty():
    assert KeyValue("a", 1, "", "!").value == b""


def places(found):
    return [query.place for query in found]


def test_a_few_queries_stay_as_they_are():
    few = [BlockingQuery(f"shop/records/s{number}/", 1, {}) for number in range(queries.MAX_QUERIES)]

    assert widened(few, PREFIXES) is few


def test_too_many_queries_become_two_that_know_what_the_others_saw():
    notes = BlockingQuery("shop/notes/", 1, {"shop/notes/n": 1})
    many = [
        BlockingQuery(f"shop/records/s{number}/", 1, {f"shop/records/s{number}/i": number})
        for number in range(queries.MAX_QUERIES + 1)
    ]

    found = widened([notes, *many], PREFIXES)

    assert places(found) == ["shop/notes/", *PREFIXES]
    assert found[1].index == 0
    assert len(found[1].seen) == len(many)
    assert found[2].seen == {}


def test_later_queries_join_the_two_shared_ones():
    wide = [BlockingQuery(prefix, 9, {}) for prefix in PREFIXES]
    late = BlockingQuery("shop/subscribers/orders/", 1, {"shop/subscribers/orders/i": 4})

    found = widened([*wide, late], PREFIXES)

    assert found == wide
    assert wide[1].seen == {"shop/subscribers/orders/i": 4}
