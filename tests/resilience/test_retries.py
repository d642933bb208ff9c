"""Claims about what becomes of a call without an answer."""

from __future__ import annotations

import pytest

from zmqservices.resilience.retries import LOST_MOVES, REFUSED_MOVES, Failure, RetryAction, next_action


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("moves", [0, 1, 100])
@pytest.mark.parametrize("others", [0, 1])
def test_a_call_that_was_not_served_always_moves(idempotent: bool, moves: int, others: int) -> None:
    assert next_action(Failure.NOT_SERVED, idempotent, moves, others) is RetryAction.ELSEWHERE


def test_a_refused_call_asks_around_once_only() -> None:
    assert next_action(Failure.OVERLOADED, False, 0, others=1) is RetryAction.ELSEWHERE
    assert next_action(Failure.OVERLOADED, False, REFUSED_MOVES, others=1) is RetryAction.GIVE_UP


def test_overload_is_told_at_once_where_there_is_nobody_else() -> None:
    assert next_action(Failure.OVERLOADED, True, 0, others=0) is RetryAction.GIVE_UP


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_call_that_may_have_run_is_never_repeated_in_silence(moves: int) -> None:
    assert next_action(Failure.LOST, False, moves, others=5) is RetryAction.GIVE_UP


def test_an_idempotent_one_is_repeated_a_bounded_number_of_times() -> None:
    assert next_action(Failure.LOST, True, 0, others=0) is RetryAction.ELSEWHERE
    assert next_action(Failure.LOST, True, LOST_MOVES, others=5) is RetryAction.GIVE_UP
