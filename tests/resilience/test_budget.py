"""Claims about how often calls are repeated; time is an argument."""

from __future__ import annotations

import pytest

from zmqservices.resilience.budget import KEPT, RetryBudget


def spend_all(budget: RetryBudget, calls: int, now: float) -> int:
    """How many repeats there are at that moment."""
    spent = 0
    while spent < 100_000 and budget.spend(calls, now):
        spent += 1
    return spent


def test_a_new_budget_has_the_repeats_of_some_quiet_seconds() -> None:
    assert spend_all(RetryBudget(0.2, 10.0, 0.0), 0, 0.0) == 10 * KEPT


def test_a_part_of_the_calls_may_be_repeated() -> None:
    budget = RetryBudget(0.25, 0.0, 0.0)

    assert spend_all(budget, 1000, 0.0) == 250
    assert spend_all(budget, 1000, 0.0) == 0
    assert spend_all(budget, 1100, 0.0) == 25


def test_seconds_earn_repeats_where_there_are_few_calls() -> None:
    budget = RetryBudget(0.2, 10.0, 0.0)
    spend_all(budget, 0, 0.0)

    assert spend_all(budget, 0, 1.0) == pytest.approx(10, abs=1)


def test_a_long_quiet_time_does_not_pay_for_a_storm() -> None:
    budget = RetryBudget(0.2, 10.0, 0.0)
    budget.earn(1_000_000, 0.0)

    assert spend_all(budget, 1_000_000, 20 * KEPT) == 10 * KEPT


def test_under_steady_load_a_storm_gets_no_more_than_its_part() -> None:
    """A hundred seconds in which every call fails and would be repeated."""
    budget, repeated = RetryBudget(0.2, 10.0, 0.0), 0
    for step in range(2000):
        repeated += spend_all(budget, step * 50, step * 0.05)

    assert repeated <= 0.2 * 100_000 + 10 * 100 + 10 * KEPT + 1


def test_the_first_lost_link_is_paid_for_and_no_other_one_soon_after() -> None:
    budget = RetryBudget(0.2, 10.0, 0.0)

    budget.link_lost(5000, 10_000, 100.0)
    assert spend_all(budget, 10_000, 100.0) >= 5000
    budget.link_lost(5000, 10_000, 101.0)
    assert spend_all(budget, 10_000, 101.0) < 20

    budget.link_lost(5000, 10_000, 101.0 + KEPT)
    assert spend_all(budget, 10_000, 101.0 + KEPT) >= 5000


def test_links_that_are_lost_again_and_again_are_never_a_free_time() -> None:
    """A call that kills each instance that it reaches must not be passed on without end."""
    budget = RetryBudget(0.0, 1.0, 0.0)
    budget.link_lost(100, 0, 0.0)
    spent = spend_all(budget, 0, 0.0)
    for second in range(1, 60):
        budget.link_lost(100, 0, float(second))
        spent += spend_all(budget, 0, float(second))

    assert spent <= 100 + 60 + KEPT


def test_a_budget_of_nothing_repeats_nothing() -> None:
    budget = RetryBudget(0.0, 0.0, 0.0)

    budget.link_lost(5, 100, 50.0)

    assert not budget.is_on
    assert not budget.spend(100, 50.0)
