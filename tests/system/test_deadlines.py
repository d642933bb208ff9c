"""Deadlines that pass, and callers that leave: the service stops methods whose result nobody waits for."""

import time

import gevent
import pytest

from tests.system.processes import eventually
from tests.system.remote import Remote
from zmqservices.exceptions import RpcTimeout


@pytest.fixture(scope="module")
def cluster(make_lasting_cluster):
    return make_lasting_cluster(HEARTBEAT=20.0)


@pytest.fixture(scope="module")
def witness(cluster):
    """A service with one worker: a slot that is not free shows."""
    return cluster.run_one("witness", max_workers=1)


@pytest.fixture(scope="module")
def relay(cluster, witness):
    """A service that calls it; the last test ends it."""
    return cluster.run_one("relay")


CANCELLED = ["began", "WorkerCancelled", "result WorkerCancelled", "torn down"]


def test_a_deadline_ends_the_call_at_both_ends(cluster, witness):
    with cluster.client() as remote:
        remote.witness.lines("warm")
        began = time.monotonic()
        with pytest.raises(RpcTimeout, match="within 0.7 s"):
            remote.witness.hold.with_timeout(0.7)("mine", 30)
        took = time.monotonic() - began
        # The only worker is free again: this is answered at once, and tells what became of the one before.
        lines = remote.witness.lines.with_timeout(10)("mine")

    assert 0.7 <= took < 7.0
    assert lines == CANCELLED


def test_a_call_that_waits_for_a_worker_ends_by_its_deadline_and_never_begins(cluster, witness):
    with cluster.client() as remote:
        first = remote.witness.hold.call_async("first", 1.0)
        with pytest.raises(RpcTimeout):
            remote.witness.hold.with_timeout(0.3)("second", 0)
        assert first.result() == "first"

        assert remote.witness.lines("first") == ["began", "ended", "result returned", "torn down"]
        assert remote.witness.lines("second") == []


def test_a_nested_call_gets_the_smaller_deadline(cluster, relay):
    with cluster.client() as remote:
        # The relay's proxy allows 30 s; its caller 5, and then 60.
        assert 0.0 < remote.relay.time_left.with_timeout(5)() <= 5.0
        assert 20.0 < remote.relay.time_left.with_timeout(60)() <= 30.0
        with pytest.raises(RpcTimeout):
            remote.relay.hold.with_timeout(0.5)("nested", 30)
        assert remote.witness.lines("nested") == CANCELLED


def test_a_caller_that_gives_up_has_its_call_cancelled(cluster, witness):
    with cluster.client() as remote:
        call = remote.witness.hold.call_async("given up", 30)
        call.cancel()

        assert remote.witness.lines("given up") in ([], CANCELLED)
        # A greenlet's own timeout does the same; the hub is made here for this.
        with gevent.Timeout(0.5, False):
            remote.witness.hold("hurried", 30)
        assert remote.witness.lines("hurried") == CANCELLED


def test_a_killed_caller_has_its_calls_cancelled(cluster, stage, witness):
    with cluster.client() as remote:
        for number in range(5):
            caller = Remote.start(stage, cluster.client_config())
            caller.begin("witness.hold", f"orphan {number}", 30)
            # The only worker holds; so what it is about cannot be asked, and must be listened for: see the log.
            eventually(lambda: f"holds orphan {number}" in witness.output(), what="the call runs")  # noqa: B023
            caller.process.kill()
            killed_at = time.monotonic()

            # No heartbeat tells of it.
            assert remote.witness.lines(f"orphan {number}") == CANCELLED
            assert time.monotonic() - killed_at < 5.0


def test_calls_of_a_killed_relay_are_cancelled_too(cluster, witness, relay):
    with cluster.client() as remote:
        call = remote.relay.hold.call_async("by relay", 30)
        eventually(lambda: "holds by relay" in witness.output(), what="the call runs")
        relay.kill()

        assert remote.witness.lines("by relay") == CANCELLED
        with pytest.raises(Exception, match="lost"):
            call.result()
