"""Claims about who is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqservices.resilience.balance import DECAY, UNMEASURED, Load, choose

NOW = 100.0


class Candidate:
    def __init__(self, in_flight: int = 0, latency: float = 0.01, seen_at: float = NOW) -> None:
        self.load = Load()
        self.load.saw(latency, seen_at)
        self.load.latency = latency
        self.load.in_flight = in_flight


def rolls(*values: float) -> Callable[[], float]:
    """A source of randomness that is not random."""
    return iter(values).__next__


def test_a_lone_candidate_is_chosen_without_a_roll() -> None:
    lone = Candidate()

    assert choose([lone], NOW, rolls()) is lone


def test_of_two_the_one_with_fewer_calls_in_flight_is_asked() -> None:
    busy, idle = Candidate(in_flight=5), Candidate(in_flight=1)

    assert choose([busy, idle], NOW, rolls(0.0, 0.0)) is idle
    assert choose([idle, busy], NOW, rolls(0.9, 0.0)) is idle


def test_of_two_equally_busy_the_faster_is_asked() -> None:
    slow, fast = Candidate(latency=0.5), Candidate(latency=0.001)

    assert choose([slow, fast], NOW, rolls(0.0, 0.0)) is fast


@given(st.integers(2, 20), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_two_different_ones_are_compared_whatever_is_rolled(count: int, one: float, other: float) -> None:
    candidates = [Candidate(in_flight=number) for number in range(count)]

    chosen = choose(candidates, NOW, rolls(one, other))

    # The busiest of all can only be chosen by being compared with itself.
    assert chosen is not candidates[-1]


def test_a_slow_answer_counts_at_once() -> None:
    load = Load()

    load.saw(0.5, now=1.0)

    assert load.latency == 0.5


def test_fast_answers_bring_the_latency_down_over_the_decay() -> None:
    load = Load()
    load.saw(1.0, now=0.0)

    load.saw(0.0, now=DECAY)

    assert load.latency == pytest.approx(0.3679, abs=0.001)


def test_one_slow_answer_does_not_keep_an_instance_from_calls_for_good() -> None:
    slow = Candidate(latency=0.3, seen_at=0.0)

    assert choose([slow, fast := Candidate(latency=0.005, seen_at=1.0)], 1.0, rolls(0.0, 0.0)) is fast
    assert choose([slow, Candidate(latency=0.005, seen_at=NOW)], NOW, rolls(0.0, 0.0)) is slow


def test_what_an_instance_owes_does_not_fade() -> None:
    hanging, fast = Candidate(latency=0.3, in_flight=1, seen_at=0.0), Candidate(latency=0.005)

    assert choose([hanging, fast], NOW, rolls(0.0, 0.0)) is fast


def test_one_that_was_never_heard_is_tried_before_a_slow_one() -> None:
    new = Candidate(latency=UNMEASURED)

    assert choose([Candidate(latency=0.02), new], NOW, rolls(0.0, 0.0)) is new
