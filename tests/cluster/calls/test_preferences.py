"""A caller prefers its own zone, spills over, and gives new instances their share slowly."""

from collections import Counter

import pytest

from tests.cluster.calls.world import Calling
from zmqservices.wire.messages import Error


def asked(call):
    return call.instance.record.instance


def one_at_a_time(calling, links, rounds=200, takes=0.001):
    went = Counter()
    for _ in range(rounds):
        call = calling.begin()
        went[asked(call)] += 1
        calling.reactor.wind(takes)
        links[asked(call)].answer(call, None)
    return went


@pytest.fixture
def calling():
    return Calling(ZONE="a")


@pytest.fixture
def links(calling):
    return {name: calling.add_instance(name, zone=name[0]) for name in ("a1", "a2", "b1")}


def test_calls_stay_in_the_zone(calling, links):
    went = one_at_a_time(calling, links)

    assert went["b1"] == 0
    assert went["a1"] > 50 and went["a2"] > 50


def test_calls_spill_over_when_the_zone_is_full(calling, links):
    went = Counter(asked(calling.begin()) for _ in range(300))

    assert went["b1"] == pytest.approx(93, abs=10)


def test_a_call_that_the_zone_refused_moves_on(calling, links):
    call = calling.begin()
    for _ in range(2):
        full = Error(call.id, {"exc_type": "", "exc_path": "", "exc_args": [], "value": "", "code": "overloaded"})
        links[asked(call)].say(full)

    assert asked(call) == "b1"


def test_calls_leave_the_zone_at_once_if_no_instance_in_it_is_available(calling, links):
    for name in ("a1", "a2"):
        links[name].listener.on_disconnect()
    assert one_at_a_time(calling, links, 10) == {"b1": 10}

    links["a1"].greet()
    assert one_at_a_time(calling, links, 10) == {"a1": 10}


def test_announced_weights_count_without_any_setting():
    calling = Calling()
    links = {"small": calling.add_instance("small"), "large": calling.add_instance("large", weight=4.0)}

    assert one_at_a_time(calling, links, 500)["large"] == pytest.approx(400, abs=40)


def test_a_new_instance_gets_few_calls_at_first():
    calling = Calling(rpc_slow_start=100.0)
    links = {name: calling.add_instance(name) for name in ("one", "two")}
    assert one_at_a_time(calling, links, 300)["two"] == pytest.approx(150, abs=40)
    calling.reactor.wind(10.0)

    links["new"] = calling.add_instance("new")
    assert one_at_a_time(calling, links, 300)["new"] < 40
    calling.reactor.wind(100.0)

    assert one_at_a_time(calling, links, 300)["new"] == pytest.approx(100, abs=40)


def test_zone_and_share_are_shown(calling, links):
    calling.begin()

    [service] = calling.caller.call_state()

    assert {(each["zone"], each["share"]) for each in service["instances"]} == {("a", 1.0), ("b", 1.0)}
