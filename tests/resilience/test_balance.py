"""Claims about who is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqservices.resilience.balance import DECAY, UNMEASURED, Load, choose


class Candidate:
    def __init__(self, in_flight: int = 0, latency: float = 0.01) -> None:
        self.load = Load()
        self.load.in_flight = in_flight
        self.load.latency = latency


def rolls(*values: float) -> Callable[[], float]:
    """A source of randomness that is not random."""
    return iter(values).__next__


def test_a_lone_candidate_is_chosen_without_a_roll() -> None:
    lone = Candidate()

    assert choose([lone], rolls()) is lone


def test_of_two_the_one_with_fewer_calls_in_flight_is_asked() -> None:
    busy, idle = Candidate(in_flight=5), Candidate(in_flight=1)

    assert choose([busy, idle], rolls(0.0, 0.0)) is idle
    assert choose([idle, busy], rolls(0.9, 0.0)) is idle


def test_of_two_equally_busy_the_faster_is_asked() -> None:
    slow, fast = Candidate(latency=0.5), Candidate(latency=0.001)

    assert choose([slow, fast], rolls(0.0, 0.0)) is fast


@given(st.integers(2, 20), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_two_different_ones_are_compared_whatever_is_rolled(count: int, one: float, other: float) -> None:
    candidates = [Candidate(in_flight=number) for number in range(count)]

    chosen = choose(candidates, rolls(one, other))

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


def test_one_that_was_never_heard_is_tried_before_a_slow_one() -> None:
    new = Candidate(latency=UNMEASURED)

    assert choose([Candidate(latency=0.02), new], rolls(0.0, 0.0)) is new
