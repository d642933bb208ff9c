"""Calls that run out of time, or whose caller goes: the service stops working for nobody."""

import time

import pytest

from tests.system.processes import eventually
from zmqservices.exceptions import RpcTimeout


def test_a_call_out_of_time_is_told_on_time_and_cancelled_and_its_slot_is_free(cluster):
    cluster.run("witness", max_workers=1)

    with cluster.client() as remote:
        remote.witness.lines("warm")
        began = time.monotonic()
        with pytest.raises(RpcTimeout, match="within 0.7 s"):
            remote.witness.hold.with_timeout(0.7)("late", 60)
        taken = time.monotonic() - began
        # One worker only: this is answered because the slot is free again.
        lines = eventually(lambda: [x for x in [remote.witness.lines("late")] if "torn down" in x], timeout=5)[0]

    assert 0.65 < taken < 1.2
    assert lines == ["began", "WorkerCancelled", "result WorkerCancelled", "torn down"]


def test_a_nested_call_gets_the_smaller_deadline(cluster):
    cluster.run("witness")
    cluster.run("relay")

    with cluster.client() as remote:
        remote.relay.time_left()
        left = remote.relay.time_left.with_timeout(3)()
        with pytest.raises(RpcTimeout):
            remote.relay.hold.with_timeout(0.5)("nested", 60)
        lines = eventually(lambda: [x for x in [remote.witness.lines("nested")] if "torn down" in x], timeout=5)[0]

    assert 0 < left <= 3
    assert "WorkerCancelled" in lines


def test_the_call_of_a_killed_caller_is_cancelled(cluster):
    cluster.run("witness")
    caller = cluster.command("call", "witness.hold", "orphan", "60", "--timeout", "60")

    with cluster.client() as remote:
        eventually(lambda: "began" in remote.witness.lines("orphan"))
        caller.kill()
        caller.wait()
        lines = eventually(lambda: [x for x in [remote.witness.lines("orphan")] if "torn down" in x])[0]

    assert "WorkerCancelled" in lines


def test_a_busy_method_is_not_mistaken_for_a_dead_one(cluster):
    # The hub does not turn for many heartbeats of 0.5 s.
    cluster.run("maths")

    with cluster.client(timeout=20) as remote:
        assert remote.maths.spin(4) > 0
        assert remote.maths.add(2, 3) == 5
