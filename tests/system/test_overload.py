"""More calls than can be run, and methods that leave no time for anything else."""

import time

import psutil
import pytest

from tests.system.load import Load, told
from tests.system.processes import eventually
from zmqservices.exceptions import Overloaded

MEGABYTE = 1024 * 1024


@pytest.fixture
def cluster(peaceful_cluster):
    return peaceful_cluster


def settle(call):
    try:
        return call.result()
    except Overloaded as exc:
        return exc


@pytest.fixture
def restless_cluster(make_cluster):
    """One whose heartbeats and leases are short: what lasts for 1.5 s lasts for many of them."""
    return make_cluster(HEARTBEAT=0.25, DIRECTORY_TTL=1)


@pytest.fixture
def end(tmp_path):
    """A file that is not there yet: calls of `stay_until` end once it is touched."""
    return tmp_path / "end"


def test_a_full_queue_is_told_at_once_and_recovers(cluster, end):
    maths = cluster.run_one("maths", max_workers=1, max_queued_calls=5)

    with cluster.client(timeout=20) as remote:
        calls = [remote.maths.stay_until.call_async(str(end)) for _ in range(20)]
        # One runs, five wait; the others are told so while they do.
        refused = [settle(call) for call in calls[6:]]
        end.touch()

        assert all(isinstance(answer, Overloaded) and answer.retryable for answer in refused)
        assert "max_queued_calls is 5" in str(refused[0])
        assert [call.result() for call in calls[:6]] == [maths.pid] * 6
        assert remote.maths.add(2, 3) == 5


def test_a_refusal_does_not_wait_for_the_queue(cluster):
    cluster.run_one("maths", max_workers=1, max_queued_calls=1)

    with cluster.client() as remote:
        calls = [remote.maths.pause.call_async(30) for _ in range(2)]
        began = time.monotonic()
        with pytest.raises(Overloaded):
            remote.maths.add(2, 3)
        assert time.monotonic() - began < 5.0
        for call in calls:
            call.cancel()
        eventually(lambda: settle(remote.maths.add.call_async(2, 3)) == 5, what="the queue is empty again")


def test_memory_is_bounded_while_a_queue_is_full(cluster, end):
    maths = cluster.run_one("maths", max_workers=1, max_queued_bytes=20 * MEGABYTE)
    process = psutil.Process(maths.pid)

    with cluster.client(timeout=40) as remote:
        assert remote.maths.add(2, 3) == 5
        before = process.memory_info().rss
        blocker = remote.maths.stay_until.call_async(str(end))
        calls = [remote.maths.size.call_async(bytes(100_000)) for _ in range(4000)]
        # 20 MB are 209 calls. The others are refused while these wait.
        refused = [settle(call) for call in calls[250:]]
        grown = process.memory_info().rss - before
        end.touch()
        first = [settle(call) for call in calls[:250]]

        assert blocker.result() == maths.pid
        assert all(isinstance(answer, Overloaded) for answer in refused)
        assert 190 < first.count(100_000) <= 210
        assert sum(isinstance(answer, Overloaded) for answer in first) == 250 - first.count(100_000)
        # 400 MB came. 20 may wait; besides, each of two threads keeps up to 128 of what it was given back for the next.
        assert grown < (20 + 2 * 128) * MEGABYTE
        assert remote.maths.add(2, 3) == 5


def test_an_instance_that_is_full_has_its_calls_taken_by_another(cluster, end):
    full = cluster.run_one("maths", max_workers=1, max_queued_calls=1)

    with cluster.client(timeout=40) as remote:
        calls = [remote.maths.stay_until.call_async(str(end)) for _ in range(2)]
        other = cluster.run_one("maths", max_workers=1)
        # From the moment that the client has found it, no call is refused.
        eventually(lambda: settle(remote.maths.whoami.call_async()) == other.pid)
        assert {remote.maths.whoami() for _ in range(30)} == {other.pid}
        end.touch()
        assert {call.result() for call in calls} == {full.pid}


def test_a_busy_handler_is_not_taken_for_a_lost_one(restless_cluster):
    cluster = restless_cluster
    maths = cluster.run_one("maths")

    with cluster.client() as remote:
        # Six heartbeats long, and longer than a lease, the hub of the service does not turn.
        spinning = remote.maths.spin.call_async(1.5)
        waiting = remote.maths.whoami.call_async()

        assert spinning.result() > 0
        assert waiting.result() == maths.pid
    assert cluster.listing.pids("maths") == {maths.pid}


def test_callers_on_a_hub_do_not_lose_a_busy_instance_either(restless_cluster):
    cluster = restless_cluster
    busy, other = cluster.run("maths", count=2)

    def call(remote, number):
        return remote.maths.spin(2) and 0 if number == 20 else remote.maths.whoami()

    with Load(cluster.client_config(), call, greenlets=4, pause=0.01) as load:
        (spun,) = eventually(lambda: [o for o in load.outcomes if o.number == 20], what="the busy one has answered")
        load.wait_for(50, since=spun.ended)

    assert not load.failed(), told(load.failed())
    # Those that were there with it waited; nobody who came after it was suspected did.
    assert sum(outcome.seconds > 1.0 for outcome in load.outcomes) <= 4
    assert {outcome.value for outcome in load.outcomes} == {0, busy.pid, other.pid}


def test_a_busy_caller_gets_its_answers(restless_cluster):
    cluster = restless_cluster
    cluster.run_one("maths")

    def call(remote, number):
        if number == 10:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                pass
        return remote.maths.pause(0.2 if number < 20 else 0)

    with Load(cluster.client_config(), call, greenlets=8) as load:
        load.wait_for(50)

    assert not load.failed(), told(load.failed())
