"""Bursts of a client whose links are not all open yet: an instance gets its share only, while others are about to connect."""

from types import SimpleNamespace

import pytest

from zmqservices.cluster.calls.held_calls import HeldCalls
from zmqservices.cluster.calls.instances import Instance, ServicePool
from zmqservices.cluster.calls.peer import EXPECTED

NOW = 100.0


def instance(pool, is_up=False, expected_until=None, state="UP"):
    """One that is expected to be greeted at any moment, unless it is up or nobody expects it any more."""
    number = len(pool.instances)
    peer = SimpleNamespace(
        is_up=is_up, is_full=False, is_suspect=False, expected_until=NOW + 3600 if expected_until is None else expected_until
    )
    record = SimpleNamespace(instance=f"instance-{number}", state=state, zone=None, weight=1.0, methods={})
    made = pool.instances[record.instance] = Instance(record, peer, pool)
    return made


def pool_of(up, coming):
    pool = ServicePool("maths")
    made = [instance(pool, is_up=number < up) for number in range(up + coming)]
    pool.refresh(NOW)
    return pool, made


def send(pool, calls, now=NOW):
    """Send as many calls as may be sent now; answers how many wait."""
    pool.waiting.extend(range(calls))
    for _ in range(calls):
        pool.waiting.popleft()
        chosen = pool.pick(now, "work", (), may_wait=True)
        if chosen is None:
            pool.waiting.append(None)
        else:
            chosen.load.in_flight += 1
    return len(pool.waiting)


def greet(pool, greeted):
    greeted.peer.is_up = True
    pool.refresh(NOW)


def in_flight(made):
    return [one.load.in_flight for one in made]


def test_a_burst_leaves_their_share_to_those_that_are_about_to_be_greeted():
    pool, made = pool_of(up=1, coming=2)

    assert send(pool, 12) == 8
    greet(pool, made[1])
    pool.waiting.clear()
    assert send(pool, 8) == 4
    greet(pool, made[2])
    pool.waiting.clear()
    assert send(pool, 4) == 0

    assert in_flight(made) == [4, 4, 4]


@pytest.mark.parametrize("calls, sent", [(1, 1), (2, 1), (3, 1), (4, 2), (64, 22)])
def test_calls_beyond_the_share_wait(calls, sent):
    pool, made = pool_of(up=1, coming=2)

    send(pool, calls)

    assert in_flight(made) == [sent, 0, 0]


def test_a_single_call_does_not_wait_however_often_it_comes():
    pool, (one, _) = pool_of(up=1, coming=1)

    for _ in range(3):
        assert pool.pick(NOW, "work", (), may_wait=True) is one


def test_a_call_without_time_to_wait_is_sent():
    pool, (one, _) = pool_of(up=1, coming=1)
    one.load.in_flight = 5

    assert pool.pick(NOW, "work", (), may_wait=True) is None
    assert pool.pick(NOW, "work") is one


def test_no_call_waits_for_an_unreachable_instance():
    pool, (one, other) = pool_of(up=1, coming=1)
    assert send(pool, 4) == 2

    other.peer.expected_until = 0.0
    pool.refresh(NOW)
    pool.waiting.clear()

    assert send(pool, 2) == 0
    assert pool.only is one


def test_no_call_waits_for_long():
    pool, (one, other) = pool_of(up=1, coming=1)
    one.load.in_flight = 5
    other.peer.expected_until = NOW

    assert pool.pick(NOW, "work", (), may_wait=True) is one
    assert EXPECTED <= 1.0


@pytest.mark.parametrize("state", ["STARTING", "DRAINING"])
def test_no_call_waits_for_an_instance_that_could_not_be_used_anyway(state):
    pool = ServicePool("maths")
    one = instance(pool, is_up=True)
    instance(pool, state=state)
    pool.refresh(NOW)

    assert pool.only is one


def test_once_calls_flow_no_call_waits_for_a_new_instance():
    pool, made = pool_of(up=2, coming=0)
    assert send(pool, 20) == 0

    made.append(instance(pool))
    pool.refresh(NOW)

    assert send(pool, 1) == 0
    greet(pool, made[2])
    assert send(pool, 4) == 0
    assert in_flight(made)[2] == 4


def test_after_a_restart_of_all_instances_bursts_are_shared_again():
    pool, made = pool_of(up=2, coming=0)
    for one in made:
        one.left = True
    pool.refresh(NOW)
    new = [instance(pool), instance(pool)]

    greet(pool, new[0])
    assert send(pool, 4) == 2
    greet(pool, new[1])
    pool.waiting.clear()
    assert send(pool, 2) == 0

    assert in_flight(new) == [2, 2]


@pytest.mark.parametrize(
    "wait_for_service, held_until, deadline, may_wait",
    [
        (5.0, 0.0, None, True),
        (5.0, 0.0, 2 * EXPECTED + 1, True),
        (5.0, 0.0, 2 * EXPECTED, False),
        (5.0, 2 * EXPECTED + 1, None, True),
        (5.0, EXPECTED, None, False),  # It has been held already, for as long as nobody was there.
        (0.0, 0.0, None, False),
    ],
)
def test_no_call_waits_for_others_until_it_is_given_up(wait_for_service, held_until, deadline, may_wait):
    held = HeldCalls(None, wait_for_service, str, lambda: NOW)
    call = SimpleNamespace(held_until=held_until and NOW + held_until, deadline=None if deadline is None else NOW + deadline)

    assert held.may_wait(call, NOW) is may_wait
