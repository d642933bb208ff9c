"""Claims about what becomes of a call without an answer."""

from __future__ import annotations

import pytest

from zmqservices.resilience.retries import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    LOST_MOVES,
    REFUSED_MOVES,
    Failure,
    RetryAction,
    next_action,
    pause,
)


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("moves", [0, 1, 100])
@pytest.mark.parametrize("others", [0, 1])
def test_a_call_that_was_not_served_always_moves(idempotent: bool, moves: int, others: int) -> None:
    assert next_action(Failure.NOT_SERVED, idempotent, moves, others) is RetryAction.MOVE


def test_a_refused_call_asks_one_other_instance_for_nothing_and_further_ones_if_they_are_paid_for() -> None:
    assert next_action(Failure.OVERLOADED, False, 0, others=1) is RetryAction.MOVE
    assert next_action(Failure.OVERLOADED, False, REFUSED_MOVES, others=1) is RetryAction.MOVE_IF_PAID


def test_overload_is_told_at_once_where_there_is_nobody_else() -> None:
    assert next_action(Failure.OVERLOADED, True, 0, others=0) is RetryAction.GIVE_UP


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_call_that_may_have_run_is_never_repeated_in_silence(moves: int) -> None:
    assert next_action(Failure.LOST, False, moves, others=5) is RetryAction.GIVE_UP


def test_an_idempotent_one_is_repeated_a_bounded_number_of_times() -> None:
    assert next_action(Failure.LOST, True, 0, others=0) is RetryAction.REPEAT
    assert next_action(Failure.LOST, True, LOST_MOVES, others=5) is RetryAction.GIVE_UP


def test_a_pause_is_anything_up_to_a_limit_that_doubles() -> None:
    longest = [pause(moves, None, rand=lambda: 1.0) for moves in range(8)]

    assert longest == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE, 16 * FIRST_PAUSE, 0.8, 1.0, LONGEST_PAUSE]
    assert pause(3, None, rand=lambda: 0.0) == 0.0


@pytest.mark.parametrize("time_left", [0.0, 0.01, 1.0, -1.0])
def test_a_pause_leaves_at_least_half_of_the_time(time_left: float) -> None:
    assert pause(10, time_left, rand=lambda: 1.0) == max(time_left, 0.0) / 2
