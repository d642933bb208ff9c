"""A caller keeps its calls away from instances that fail far more than the others."""

import logging

import pytest

from tests.cluster.calls.world import Calling
from zmqservices.cluster.calls.call import SENT
from zmqservices.cluster.calls.sweep import SWEEP_INTERVAL
from zmqservices.exceptions import RpcTimeout
from zmqservices.observability.statistics import Statistics
from zmqservices.probes import watching
from zmqservices.wire.messages import Call, Error

NAMES = ("one", "two", "three")


@pytest.fixture
def calling():
    return Calling(rpc_ejection_failures=3)


@pytest.fixture
def links(calling):
    return {name: calling.add_instance(name) for name in NAMES}


def asked(call):
    return call.instance.record.instance


def state(calling):
    [service] = calling.caller.call_state()
    return service, {each["instance"]: each for each in service["instances"]}


def run(calling, links, silent=(), rounds=40, timeout=0.1):
    """Calls one after the other; those at `silent` instances are not answered. Returns where each went."""
    went = []
    for number in range(rounds):
        call = calling.begin(timeout=timeout)
        went.append(asked(call))
        calling.reactor.wind(0.001)
        if asked(call) in silent:
            calling.reactor.wind(timeout)
            with pytest.raises(RpcTimeout):
                call.outcome()
        elif number % 2:
            links[asked(call)].answer(call, number)
        else:
            links[asked(call)].say(Error(call.id, {"exc_type": "ValueError", "exc_path": "", "exc_args": [], "value": "no"}))
    return went


def test_an_instance_that_does_not_answer_in_time_gets_no_calls_for_a_while(calling, links, caplog):
    caplog.set_level(logging.INFO)

    went = run(calling, links, silent={"one"}, rounds=60)
    assert went.count("one") == 3
    assert "ejected instance one of maths at tcp://one:1 for 10 s: 3 calls in a row failed" in caplog.text
    calling.reactor.wind(10.0)
    run(calling, links, rounds=60)  # Until the next look.
    went = run(calling, links, rounds=100)

    assert went.count("one") > 5
    assert "instance one of maths at tcp://one:1 gets calls again" in caplog.text


def test_probes_are_called_for_ejections_and_returns(calling, links):
    statistics = Statistics()
    with watching(calling.caller, statistics):
        run(calling, links, silent={"one"}, rounds=60)
        calling.reactor.wind(10.0)
        run(calling, links, rounds=60)

    told = [(one.what, one.service, one.instance, one.detail) for one in statistics.timeline if one.instance == "one"]
    assert told[-2:] == [
        ("ejected", "maths", "one", "for 10 s: 3 calls in a row failed"),
        ("restored", "maths", "one", ""),
    ]
    assert statistics.instances.counts["maths", "ejected"] == 1


def test_errors_of_the_methods_are_no_failures(calling, links):
    for _ in range(50):
        call = calling.begin()
        links[asked(call)].say(Error(call.id, {"exc_type": "ValueError", "exc_path": "", "exc_args": [], "value": "no"}))

    _, instances = state(calling)
    assert {each["condition"] for each in instances.values()} == {"up"}


def test_refusals_of_a_full_instance_are_failures(calling, links):
    calls = [calling.begin() for _ in range(30)]
    for call in calls:
        if asked(call) == "one":
            links["one"].say(Error(call.id, {"exc_type": "", "exc_path": "", "exc_args": [], "value": "", "code": "overloaded"}))

    _, instances = state(calling)
    assert instances["one"]["condition"] == "ejected"
    assert all(call.stage == SENT and asked(call) != "one" for call in calls)


def test_a_lost_link_is_one_failure_and_repeated_losses_eject(calling, links):
    for _ in range(2):
        for _ in range(30):
            calling.begin()
        links["one"].listener.on_disconnect()
        links["one"].greet()
    _, instances = state(calling)
    assert instances["one"]["condition"] == "up"

    for _ in range(30):
        calling.begin()
    links["one"].listener.on_disconnect()
    links["one"].greet()
    calling.reactor.wind(1.0 + SWEEP_INTERVAL)

    _, instances = state(calling)
    assert instances["one"]["condition"] == "ejected"


def test_the_state_names_ejected_instances_and_reasons(calling, links):
    run(calling, links, silent={"one"}, rounds=30)

    service, instances = state(calling)

    assert (service["service"], service["calls"], service["held"], service["panic"]) == ("maths", 30, 0, False)
    assert service["retries"] > 100
    assert instances["one"]["why"] == "3 calls in a row failed"
    assert 0 < instances["one"]["ejected_for"] <= 10.0
    assert instances["two"]["condition"] == "up"
    assert instances["two"]["latency"]["add"] == pytest.approx(0.001)


def test_the_metrics_count_instances_by_their_state(calling, links):
    run(calling, links, silent={"one"}, rounds=30)
    links["two"].listener.on_disconnect()

    measured = {(each.name, each.labels.get("state")): each.value for each in calling.caller.measure()}

    states = {state: measured["client_instances", state] for state in ("ready", "ejected", "suspect", "unavailable")}
    assert states == {"ready": 1, "ejected": 1, "suspect": 0, "unavailable": 1}
    assert measured["client_panic", None] == 0
    assert measured["client_retry_budget", None] > 100


def test_if_more_than_half_fail_all_instances_get_calls(calling, links, caplog):
    went = run(calling, links, silent={"one", "two"}, rounds=60)

    assert "more than half of the 3 instances of maths fail: calls go to all of them for 10 s" in caplog.text
    service, _ = state(calling)
    assert service["panic"]
    assert set(went[-30:]) & {"one", "two"}


def test_ejected_instances_get_calls_if_no_other_instance_can(calling, links):
    run(calling, links, silent={"one"}, rounds=30)
    for name in ("two", "three"):
        links[name].listener.on_disconnect()

    call = calling.begin()

    assert call.id in [message.id for message in links["one"].said(Call)]


def test_with_two_instances_failures_far_apart_do_not_eject_the_remaining_one():
    calling = Calling(rpc_ejection_failures=3)
    links = {name: calling.add_instance(name) for name in ("one", "two")}
    run(calling, links, silent={"one"}, rounds=20)
    for _ in range(5):
        run(calling, links, rounds=5)
        run(calling, links, silent={"two"}, rounds=1)

    service, instances = state(calling)
    assert not service["panic"]
    assert instances["two"]["condition"] == "up"
