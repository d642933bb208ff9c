"""Calls with a key go to the instance of that key."""

from collections import Counter

import pytest

from tests.cluster.calls.world import Calling
from zmqservices.cluster.calls.call import HELD, SENT
from zmqservices.resilience.hashing import FEW
from zmqservices.resilience.retries import FIRST_PAUSE
from zmqservices.wire.messages import Error

KEYED = {"add": {"idempotent": True, "key": ["user", 0]}}
KEYS = [b"%d" % number for number in range(200)]


def asked(call):
    return call.instance.record.instance


def begin(calling, key, timeout=10.0):
    return calling.caller.begin("maths", "add", (), None, None, timeout, key=key)


def owners(calling, links):
    """By key the instance that gets its calls, one after the other."""
    found = {}
    for key in KEYS:
        call = begin(calling, key)
        found[key] = asked(call)
        calling.reactor.turn()
        links[asked(call)].answer(call, None)
    return found


@pytest.fixture
def calling():
    return Calling()


@pytest.fixture
def links(calling):
    return {name: calling.add_instance(name, **KEYED) for name in ("one", "two", "three", "four")}


def test_each_key_has_one_instance_and_keys_are_spread(calling, links):
    first = owners(calling, links)

    assert owners(calling, links) == first
    assert len(set(first.values())) == 4


def test_only_keys_of_an_unavailable_instance_move_and_they_return_with_it(calling, links):
    first = owners(calling, links)

    links["one"].listener.on_disconnect()
    moved = {key for key, instance in owners(calling, links).items() if first[key] != instance}
    assert moved == {key for key, instance in first.items() if instance == "one"}
    links["one"].greet()

    assert owners(calling, links) == first


def test_two_callers_agree(calling, links):
    other = Calling()
    others = {name: other.add_instance(name, **KEYED) for name in ("four", "three", "two", "one")}

    assert owners(calling, links) == owners(other, others)


def test_a_declared_argument_is_the_key_by_position_or_name(calling, links):
    went = set()
    for args, kwargs in (((17,), None), ((17, "x"), {}), (("17",), None), ((), {"user": 17})) * 5:
        call = calling.caller.begin("maths", "add", args, kwargs, None, 10.0)
        went.add(asked(call))
        calling.reactor.turn()
        links[asked(call)].answer(call, None)

    assert went == {owners_of(calling, b"17")}


def owners_of(calling, key):
    return asked(begin(calling, key))


@pytest.mark.parametrize("args", [(), ([1, 2],), (None,)])
def test_a_call_whose_argument_cannot_be_a_key_is_balanced(calling, links, args):
    went = Counter(asked(calling.caller.begin("maths", "add", args, None, None, 10.0)) for _ in range(40))

    assert set(went.values()) == {10}


def test_a_key_given_with_the_call_wins(calling, links):
    mine = owners_of(calling, b"mine")

    assert {asked(calling.caller.begin("maths", "add", (n,), None, None, 10.0, key=b"mine")) for n in range(5)} == {mine}


def test_a_hot_key_spills_over_to_the_next_instance_of_its_order(calling, links):
    went = [asked(begin(calling, b"hot")) for _ in range(100)]

    assert set(went[:FEW]) == {went[0]}
    assert len(set(went)) == 4
    assert max(Counter(went).values()) <= 1.25 * 100 / 4 + 1


def test_a_lost_call_is_repeated_at_the_next_instance_of_its_key(calling, links):
    first = begin(calling, b"some")
    calling.reactor.turn()
    links[asked(first)].listener.on_disconnect()
    calling.reactor.wind(FIRST_PAUSE)

    assert first.stage == SENT
    assert asked(first) == owners_of(calling, b"some")


def test_a_refused_call_asks_the_next_instance_of_its_key(calling, links):
    call = begin(calling, b"some")
    calling.reactor.turn()
    was = asked(call)
    links[was].say(Error(call.id, {"exc_type": "", "exc_path": "", "exc_args": [], "value": "", "code": "overloaded"}))
    now = asked(call)

    links[was].listener.on_disconnect()
    assert now == owners_of(calling, b"some")


def test_a_call_with_a_key_waits_for_instances_that_are_about_to_be_greeted(links):
    """Its key may belong to one of them."""
    calling = Calling()
    links = {name: calling.add_instance(name, is_greeted=False, **KEYED) for name in ("one", "two", "three", "four")}
    calls = {key: begin(calling, key) for key in KEYS[:12]}
    links["one"].greet()
    assert all(call.stage == HELD for call in calls.values())

    for name in ("two", "three", "four"):
        links[name].greet()

    settled = Calling()
    all_there = owners(settled, {name: settled.add_instance(name, **KEYED) for name in links})
    assert {key: asked(call) for key, call in calls.items()} == {key: all_there[key] for key in calls}
