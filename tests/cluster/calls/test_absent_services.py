"""Services that nobody has are not remembered for ever: some callers take the names from others."""

import pytest

from tests.cluster.calls.world import Calling
from zmqservices.cluster.calls.call import DONE
from zmqservices.cluster.calls.peer_pool import MOST_ABSENT


@pytest.fixture
def calling():
    return Calling(rpc_wait_for_service=5)


def test_beyond_a_bound_only_those_are_remembered_that_are_there_or_awaited(calling):
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
