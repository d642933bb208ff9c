"""Claims about choosing among instances that are not equal; no clock, seeded lots."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from zmqservices.resilience.balance import Load
from zmqservices.resilience.preferences import FIRST_SHARE, Preferences, choose_preferred

NONE = Preferences()


class Candidate:
    def __init__(self, zone: str | None = None, weight: float = 1.0, preferences: Preferences = NONE) -> None:
        self.load = Load()
        preferences.apply(self.load, zone, weight, 1000.0)


def shares(candidates: list[Candidate], calls: int, keep: bool = False) -> list[int]:
    """How many of so many calls each gets; with `keep` none of them ends."""
    random, counted = Random(7), Counter()
    for _ in range(calls):
        chosen = choose_preferred(candidates, "work", random.random)
        counted[chosen] += 1
        chosen.load.in_flight += keep
    return [counted[candidate] for candidate in candidates]


@pytest.mark.parametrize("keep", [False, True], ids=["one at a time", "at once"])
def test_calls_are_shared_by_weight(keep: bool) -> None:
    candidates = [Candidate(weight=weight) for weight in (1.0, 2.0, 5.0)]

    assert shares(candidates, 8000, keep) == pytest.approx([1000, 2000, 5000], rel=0.1)


def test_an_instance_of_weight_nothing_is_asked_when_all_others_are_busy() -> None:
    candidates = [Candidate(weight=0.0), Candidate(), Candidate()]

    assert shares(candidates, 1000)[0] < 10
    assert shares(candidates[:1], 10) == [10]


def test_the_own_zone_is_preferred_until_it_has_so_many_more_calls() -> None:
    candidates = [Candidate(zone, preferences=Preferences("a", 10.0)) for zone in ("a", "b", None)]

    assert shares(candidates, 1000) == [1000, 0, 0]
    assert shares(candidates, 300, keep=True) == pytest.approx([107, 97, 97], abs=3)


def test_an_own_zone_that_is_far_slower_is_left() -> None:
    candidates = [Candidate(zone, preferences=Preferences("a", 10.0)) for zone in ("a", "b")]
    candidates[0].load.weights["work"] = (50.0, 50.0)

    assert shares(candidates, 1000)[1] > 750


@pytest.mark.parametrize(("own", "distance"), [(None, 10.0), ("a", 0.0)])
def test_without_a_zone_or_a_preference_all_are_equal(own: str | None, distance: float) -> None:
    assert not any(Preferences(own, distance).apply(Load(), zone, 1.0, 0.0) for zone in ("a", "b", None))


def test_the_share_of_a_new_instance_grows() -> None:
    load, preferences = Load(), Preferences(slow_start=10.0)
    grown = []
    for age in (0.0, 5.0, 10.0, 11.0):
        preferences.apply(load, None, 2.0, age)
        grown.append(load.share)

    assert grown == pytest.approx([2 * FIRST_SHARE, 2 * (FIRST_SHARE + 0.45), 2.0, 2.0])


def test_a_latency_counts_as_among_equals() -> None:
    candidates = [Candidate(weight=2.0), Candidate(weight=2.0)]
    candidates[0].load.weights["work"] = (10.0, 10.0)

    assert shares(candidates, 1100, keep=True) == pytest.approx([100, 1000], rel=0.1)


def test_of_very_many_some_are_compared() -> None:
    assert sum(shares([Candidate(weight=2.0) for _ in range(500)], 100)) == 100
