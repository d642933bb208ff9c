"""Instances start, stop and die under load."""

import time
from statistics import median

import pytest

from tests.system.load import Load, told
from zmqservices.exceptions import MaybeExecuted, RpcTimeout

#: Workers enough that all calls of the load fit into one instance.
ROOMY = {"max_workers": 100}


@pytest.fixture
def cluster(peaceful_cluster):
    return peaceful_cluster


def mixed(remote, number):
    """Calls that take no time and calls that take some."""
    if number % 4 == 0:
        return remote.maths.pause((number % 7) * 0.01)
    return remote.maths.add(number, 1)


def assert_none_failed(load):
    assert not load.failed(), told(load.failed())
    assert all(outcome.value == outcome.number + 1 for outcome in load.outcomes if outcome.number % 4)


@pytest.mark.parametrize("order", ["start the new one first", "stop the old one first"])
def test_a_rolling_restart_fails_no_call(cluster, order):
    instances = cluster.run("maths", count=3, **ROOMY)

    with Load(cluster.client_config(), mixed, greenlets=64) as load:
        load.wait_for(500)
        for old in instances:
            before = time.monotonic()
            if order.startswith("start"):
                cluster.run_one("maths", **ROOMY)
            old.terminate()
            assert old.wait() == 0
            if order.startswith("stop"):
                cluster.run_one("maths", **ROOMY)
            load.wait_for(200, since=before)
        load.wait_for(3_000)

    assert_none_failed(load)
    assert all("Traceback" not in old.output() for old in instances)


def test_the_restart_of_the_only_instance_is_waited_for(cluster):
    old = cluster.run_one("maths", **ROOMY)

    with Load(cluster.client_config(rpc_wait_for_service=10), mixed, greenlets=16, pause=0.005) as load:
        load.wait_for(100)
        old.terminate()
        assert old.wait() == 0
        cluster.run_one("maths", **ROOMY)
        load.wait_for(100, since=time.monotonic())

    assert_none_failed(load)


def test_services_that_call_each_other_are_restarted_without_a_failed_call(cluster):
    processes = cluster.run_all("maths", "maths", "relay", "relay", **ROOMY)
    maths, relays = processes[:2], processes[2:]

    with Load(
        cluster.client_config(), lambda remote, number: remote.relay.add(number, 1), greenlets=8, pause=0.01
    ) as load:
        load.wait_for(200)
        for service, old in (("maths", maths[0]), ("relay", relays[0]), ("maths", maths[1]), ("relay", relays[1])):
            cluster.run_one(service, **ROOMY)
            old.terminate()
            assert old.wait() == 0
        load.wait_for(200, since=time.monotonic())

    assert not load.failed(), told(load.failed())


#: Seconds between heartbeats where one is not to be what tells of a death: it would take a minute.
RARELY = 20.0


def test_callers_of_a_killed_instance_know_at_once_and_others_feel_nothing(make_cluster):
    cluster = make_cluster(HEARTBEAT=RARELY)
    instances = cluster.run("maths", count=3, **ROOMY)
    victim = instances[0]

    def call(remote, number):
        return remote.maths.pause(0.1) if number % 2 else remote.maths.pause_again(0.1)

    with Load(cluster.client_config(), call, greenlets=64) as load:
        load.wait_for(500)
        killed_at = time.monotonic()
        victim.kill()
        load.wait_for(500, since=killed_at)

    lost = load.failed()
    assert lost, "nothing was in flight there; the test has shown nothing"
    # Those that may not be repeated are in doubt, and say so; the others were answered by somebody else.
    assert all(type(outcome.error) is MaybeExecuted for outcome in lost), told(lost)
    assert all(outcome.number % 2 for outcome in lost)
    assert median(outcome.ended - killed_at for outcome in lost) < 0.1
    # Nobody else was disturbed, and nobody was sent there afterwards.
    assert all(outcome.began < killed_at + 0.5 for outcome in lost)
    assert len(lost) <= 64
    answered = [outcome for outcome in load.outcomes if outcome.error is None]
    assert max(outcome.seconds for outcome in answered) < 5.0
    assert victim.pid not in {outcome.value for outcome in answered if outcome.began > killed_at}
    assert {outcome.value for outcome in answered if outcome.began > killed_at} == {p.pid for p in instances[1:]}


def test_a_plain_thread_knows_at_once_that_its_instance_was_killed(make_cluster):
    cluster = make_cluster(HEARTBEAT=RARELY)
    victim = cluster.run_one("maths")

    with cluster.client() as remote:
        call = remote.maths.pause.call_async(30)
        killed_at = time.monotonic()
        victim.kill()
        with pytest.raises(MaybeExecuted):
            call.result()

    assert time.monotonic() - killed_at < 5.0


def test_a_client_that_slept_through_a_restart_calls_the_new_instance(cluster):
    old = cluster.run_one("maths")

    with cluster.client() as remote:
        assert remote.maths.whoami() == old.pid
        # Nobody polls this client's sockets now; it hears nothing of what follows.
        new = cluster.run_one("maths")
        old.terminate()
        assert old.wait() == 0

        assert {remote.maths.whoami() for _ in range(20)} == {new.pid}


def test_an_answer_that_came_in_time_is_there_however_late_it_is_asked_for(cluster):
    cluster.run_one("maths")

    with cluster.client(timeout=0.5) as remote:
        remote.maths.add.with_timeout(20)(0, 1)  # It is connected: half a second is enough for answers now.
        calls = [remote.maths.add.call_async(number, 1) for number in range(3)]
        late = remote.maths.pause.call_async(0.8)
        time.sleep(1.0)  # This thread is about something else; nobody looks at its sockets.

        assert [call.result() for call in calls] == [1, 2, 3]
        with pytest.raises(RpcTimeout):
            late.result()
