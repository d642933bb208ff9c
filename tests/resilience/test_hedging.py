"""Claims about when a call gets a second attempt."""

from __future__ import annotations

from random import Random

import pytest

from zmqservices.resilience.budget import RetryBudget
from zmqservices.resilience.hedging import LEAST, LOOK_EVERY, PART, SHORTEST_DELAY, WINDOW, Durations, is_worth_it


def measured(*seconds: float) -> Durations:
    durations = Durations()
    for each in seconds:
        durations.add(each)
    return durations


def test_until_enough_calls_were_answered_nothing_is_hedged() -> None:
    assert measured(*[0.1] * (LEAST - 1)).delay is None
    assert measured(*[0.1] * LEAST).delay == 0.1


def test_a_call_is_hedged_once_it_takes_longer_than_nearly_all() -> None:
    durations = measured(*[0.01 * number for number in range(1, 101)])

    assert durations.delay == pytest.approx(0.96)


def test_what_was_long_ago_is_forgotten() -> None:
    durations = measured(*[5.0] * WINDOW, *[0.1] * WINDOW)

    assert durations.delay == 0.1


def test_the_delay_is_looked_at_now_and_then() -> None:
    durations = measured(*[0.1] * LEAST)
    for _ in range(LOOK_EVERY - 1):
        durations.add(1.0)
    assert durations.delay == 0.1

    durations.add(1.0)

    assert durations.delay == 1.0


def test_very_short_calls_are_not_hedged_at_once() -> None:
    assert measured(*[0.00001] * LEAST).delay == SHORTEST_DELAY


def test_a_call_that_is_nearly_over_is_not_worth_it() -> None:
    assert [is_worth_it(left) for left in (None, 1.0, SHORTEST_DELAY, -1.0)] == [True, True, False, False]


@pytest.mark.parametrize("seed", range(3))
def test_about_one_of_twenty_calls_is_hedged_also_after_many_were(seed: int) -> None:
    random, durations, hedged = Random(seed), Durations(), 0
    for _ in range(4000):
        first = random.lognormvariate(-4, 1.5)
        delay = durations.delay
        if delay is not None and first > delay:
            hedged += 1
            first = min(first, delay + random.lognormvariate(-4, 1.5))
        durations.add(first)

    assert 0.5 * (1 - PART) < hedged / 4000 < 1.6 * (1 - PART)


# --- the budget --------------------------------------------------------------------------------------------


def test_a_second_attempt_is_paid_for_as_a_repeat_is() -> None:
    budget = RetryBudget(0.5, 0.0, now=0.0)

    assert not budget.spend_earned(1, 0.0)
    assert budget.spend_earned(2, 0.0)
    assert not budget.spend(2, 0.0)


def test_what_pays_for_a_lost_link_is_left_to_its_calls() -> None:
    budget = RetryBudget(0.1, 0.0, now=0.0)
    budget.link_lost(3, 0, now=20.0)

    assert not budget.spend_earned(0, 20.0)
    assert [budget.spend(0, 20.0) for _ in range(4)] == [True, True, True, False]


def test_without_a_budget_nothing_is_hedged() -> None:
    assert not RetryBudget(0.0, 0.0, now=0.0).spend_earned(1000, 0.0)
