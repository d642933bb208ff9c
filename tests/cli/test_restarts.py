"""When the supervisor restarts a process that ended."""

import random

import pytest

from zmqservices.cli.restarts import FIRST_PAUSE, LONG_LIFE, LONGEST_PAUSE, Restarts


@pytest.fixture
def restarts():
    return Restarts(random.Random(1))


def test_a_process_with_a_wrong_configuration_is_not_restarted(restarts):
    assert restarts.ended(2, now=0.0) is None
    assert restarts.is_given_up
    assert not restarts.was_ever_up


def test_the_same_exit_code_of_a_process_that_was_up_is_a_failure_like_others(restarts):
    restarts.came_up(now=0.0)

    assert restarts.ended(2, now=1.0) is not None
    assert not restarts.is_given_up


def test_pauses_grow_and_have_a_bound(restarts):
    pauses = [restarts.ended(1, now=100.0) - 100.0 for _ in range(40)]

    for tries, pause in enumerate(pauses):
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries)
        assert longest / 2 <= pause <= longest


def test_processes_restart_at_different_times():
    pauses = {Restarts(random.Random(seed)).ended(1, now=0.0) for seed in range(10)}

    assert len(pauses) == 10


def test_a_failure_after_a_long_life_counts_as_the_first(restarts):
    for _ in range(10):
        restarts.ended(1, now=0.0)
    restarts.came_up(now=0.0)

    assert restarts.ended(1, now=LONG_LIFE) <= LONG_LIFE + FIRST_PAUSE


def test_a_failure_after_a_short_life_counts_as_a_further_one(restarts):
    for _ in range(10):
        restarts.ended(1, now=0.0)
    restarts.came_up(now=0.0)

    assert restarts.ended(1, now=1.0) > 1.0 + FIRST_PAUSE


def test_an_exit_with_0_is_no_failure(restarts):
    for now in range(10):
        restarts.came_up(now)

        assert restarts.ended(0, now) <= now + FIRST_PAUSE


def test_a_change_of_the_source_forgets_earlier_failures(restarts):
    restarts.ended(2, now=0.0)

    restarts.forgive()

    assert not restarts.is_given_up
    assert restarts.ended(1, now=0.0) <= FIRST_PAUSE
