"""A caller does not remember unknown services for ever, since some callers get the names from their own clients."""

import pytest

from discovery import Record
from tests.cluster.calls.world import Calling
from zmqservices.cluster.calls.call import DONE, HELD, SENT
from zmqservices.cluster.calls.peer_pool import MOST_ABSENT
from zmqservices.cluster.calls.sweep import SWEEP_INTERVAL
from zmqservices.exceptions import UnknownService


@pytest.fixture
def calling():
    return Calling(rpc_wait_for_service=5)


def test_beyond_a_bound_only_listed_and_awaited_services_are_remembered(calling):
    link = calling.add_instance("one")
    waiting = calling.begin(service="late")
    for number in range(2 * MOST_ABSENT):
        calling.caller.expect(f"nowhere{number}")

    pools = calling.caller._pools
    assert len(pools) <= MOST_ABSENT + 3
    assert {"maths", "late"} <= pools.keys()
    assert [one["service"] for one in calling.caller.call_state()] == ["maths", "late"]
    assert {one.labels["service"] for one in calling.caller.measure() if "service" in one.labels} == {"maths", "late"}
    calling.begin()
    assert link.sent
    calling.add_instance("two", service="late")
    assert waiting.stage != DONE and not pools["late"].waiting


# --- rpc_wait_for_service: 0 -----------------------------------------------------------------------------------------


@pytest.fixture
def hasty():
    return Calling(rpc_wait_for_service=0)


def test_a_call_that_may_not_wait_ends_once_the_directory_lists_no_instance(hasty):
    hasty.directory.has_answered = False
    first, second = hasty.begin(), hasty.begin()
    hasty.reactor.wind(SWEEP_INTERVAL / 4)
    assert (first.stage, second.stage) == (HELD, HELD)

    hasty.directory.has_answered = True
    hasty.reactor.wind(SWEEP_INTERVAL / 2)

    assert hasty.reactor.woken == [first, second]
    with pytest.raises(UnknownService, match="no instance of 'maths' is known; the directory of this test"):
        first.outcome()
    # The next one need not look twice.
    third = hasty.caller.begin("maths", "add", (), None, None, 10.0)
    with pytest.raises(UnknownService):
        third.outcome()
    hasty.reactor.wind(SWEEP_INTERVAL)
    assert not hasty.caller._pools["maths"].waiting


def test_the_first_call_of_a_listed_service_waits_for_its_instance(hasty):
    hasty.directory.has_answered = False
    call = hasty.begin()
    record = Record("maths", "one", "node-one", endpoints={"rpc": "tcp://one:1"})
    # It is listed, and the caller has not taken that up.
    hasty.directory.records.append(record)
    hasty.directory.has_answered = True
    another = hasty.begin()
    hasty.reactor.wind(SWEEP_INTERVAL / 4)
    assert (call.stage, another.stage) == (HELD, HELD)
    hasty.caller.update()
    hasty.reactor.wind(SWEEP_INTERVAL / 4)
    assert (call.stage, another.stage) == (HELD, HELD)

    hasty.links["tcp://one:1"].greet()

    assert (call.stage, another.stage) == (SENT, SENT)


def test_a_call_that_may_not_wait_ends_with_the_sweep_if_the_directory_is_silent(hasty):
    hasty.directory.has_answered = False
    call = hasty.begin()

    hasty.reactor.wind(SWEEP_INTERVAL - 0.001)
    assert call.stage == HELD
    hasty.reactor.wind(0.001)

    with pytest.raises(UnknownService):
        call.outcome()


def test_a_call_that_may_wait_does_so_whatever_the_directory_lists(calling):
    call = calling.begin()
    calling.reactor.wind(4.9)
    assert call.stage == HELD

    calling.add_instance("one")
    assert call.stage == SENT
