"""Claims about who is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqservices.resilience.balance import ALIKE, COMPARED, GAIN, IDLE_DECAY, WEIGHED_FOR, Load, choose, weigh

NOW = 100.0


class Candidate:
    def __init__(self, in_flight: int = 0, latency: float | None = None, seen_at: float = NOW) -> None:
        self.load = Load()
        if latency is not None:
            self.load.saw("work", latency, 0, seen_at)
        self.load.in_flight = in_flight


def asked(candidates: list[Candidate], now: float = NOW, method: str = "work") -> set[Candidate]:
    """Those that may be chosen, whatever is rolled."""
    weigh(candidates, method, now)
    return {choose(candidates, method, roll(number / len(candidates))) for number in range(len(candidates))}


def roll(value: float) -> Callable[[], float]:
    """A source of randomness that is not random."""
    return lambda: value


def test_a_lone_candidate_is_chosen() -> None:
    lone = Candidate()

    assert asked([lone]) == {lone}


def test_where_nothing_is_known_fewer_calls_in_flight_decide_and_equals_take_turns() -> None:
    busy, idle, other = Candidate(in_flight=5), Candidate(in_flight=1), Candidate(in_flight=1)

    assert asked([busy, idle, other]) == {idle, other}


def test_of_two_equally_busy_the_faster_is_asked() -> None:
    slow, fast = Candidate(2, latency=0.5), Candidate(2, latency=0.001)

    assert asked([slow, fast]) == {fast}


def test_small_differences_of_latency_are_none() -> None:
    one, other = Candidate(latency=0.1), Candidate(latency=0.1 * ALIKE * 0.99)
    for _ in range(10):
        other.load.saw("work", 0.1 * ALIKE * 0.99, 0, NOW)

    assert asked([one, other]) == {one, other}


def test_in_flight_and_latency_weigh_together() -> None:
    slow, fast = Candidate(latency=1.0), Candidate(9, latency=0.1)

    assert asked([slow, fast], NOW) == {slow, fast}
    fast.load.in_flight = 8
    assert asked([slow, fast], NOW) == {fast}
    fast.load.in_flight = 10
    assert asked([slow, fast], NOW) == {slow}


@given(st.integers(2, COMPARED), st.floats(0, 1, exclude_max=True))
def test_all_of_a_few_are_compared_whatever_is_rolled(count: int, value: float) -> None:
    candidates = [Candidate(in_flight=number) for number in range(count)]

    assert choose(candidates, "work", roll(value)) is candidates[0]


@given(st.integers(COMPARED + 1, 5 * COMPARED), st.floats(0, 1, exclude_max=True))
def test_of_many_as_many_neighbours_are_compared(count: int, value: float) -> None:
    candidates = [Candidate(in_flight=number) for number in range(count)]

    chosen = choose(candidates, "work", roll(value))

    assert chosen in candidates[: count - COMPARED + 1]


def test_the_weights_of_many_are_looked_at_less_often() -> None:
    assert weigh([Candidate()], "work", NOW) == pytest.approx(NOW + WEIGHED_FOR)
    assert weigh([Candidate() for _ in range(10 * COMPARED)], "work", NOW) == pytest.approx(NOW + 10 * WEIGHED_FOR)


# --- how latency is learnt ---------------------------------------------------------------------------------


def test_an_answer_moves_the_latency_a_little() -> None:
    load = Load()
    load.saw("work", 1.0, 0, now=0.0)

    load.saw("work", 2.0, 0, now=0.0)
    assert load.paces["work"].latency == pytest.approx(1.0 + GAIN)
    load.saw("work", 0.1, 0, now=0.0)
    assert load.paces["work"].latency == pytest.approx((1.0 + GAIN) * (1 - GAIN) + 0.1 * GAIN)


def test_what_was_seen_long_ago_counts_little_besides_a_new_answer() -> None:
    load = Load()
    load.saw("work", 1.0, 0, now=0.0)

    load.saw("work", 0.1, 0, now=10_000.0)

    assert load.paces["work"].latency == pytest.approx(0.1)


def test_after_an_answer_that_took_a_hundred_times_as_long_an_instance_is_asked_after_its_equals() -> None:
    hit, other = Candidate(latency=0.005), Candidate(latency=0.005)

    hit.load.saw("work", 0.5, 0, NOW)

    assert asked([hit, other]) == {other}
    other.load.in_flight = 1
    assert asked([hit, other]) == {hit}


def test_one_answer_alone_proves_large_differences_only() -> None:
    fast, twice, slow = Candidate(latency=0.1), Candidate(latency=0.2), Candidate(latency=0.5)

    assert asked([fast, twice, slow]) == {fast, twice}
    for _ in range(20):
        fast.load.saw("work", 0.1, 0, NOW)
        twice.load.saw("work", 0.2, 0, NOW)
    assert asked([fast, twice, slow]) == {fast}


def test_of_one_that_answers_now_soon_and_now_late_nothing_is_certain() -> None:
    erratic, steady = Candidate(latency=0.001), Candidate(latency=0.5)
    erratic.load.saw("work", 0.5, 0, NOW)

    # It is asked first where both have as many calls, and gets no more of a burst for that.
    assert asked([erratic, steady]) == {erratic}
    erratic.load.in_flight = 1
    assert asked([erratic, steady]) == {steady}


def test_an_answer_that_may_have_waited_behind_others_does_not_make_an_instance_slow() -> None:
    load = Load()
    load.saw("work", 0.5, 0, now=0.0)

    load.saw("work", 2.0, 3, now=2.0)
    assert load.paces["work"].latency == 0.5
    load.saw("work", 4.0, 3, now=2.0)
    assert load.paces["work"].latency == pytest.approx(0.5 + 0.5 * GAIN)


def test_methods_are_told_apart() -> None:
    slow, other = Candidate(), Candidate()
    slow.load.saw("report", 5.0, 0, NOW)
    other.load.saw("report", 0.1, 0, NOW)

    assert asked([slow, other], NOW, "report") == {other}
    assert asked([slow, other], NOW, "ping") == {slow, other}


def test_one_that_was_never_heard_counts_as_the_median_of_the_others() -> None:
    fast, usual, slow, new = Candidate(latency=0.1), Candidate(latency=1.0), Candidate(latency=10.0), Candidate()

    weigh([fast, usual, slow, new], "work", NOW)

    assert new.load.weights["work"] == usual.load.weights["work"] == (pytest.approx(10.0), pytest.approx(10.0))


# --- how it is forgotten -----------------------------------------------------------------------------------


def test_one_slow_answer_does_not_keep_an_instance_from_calls_for_good() -> None:
    slow = Candidate(latency=0.3, seen_at=NOW)
    others = [Candidate(latency=0.005), Candidate(latency=0.005)]

    assert slow not in asked([slow, *others], NOW + IDLE_DECAY)
    assert slow in asked([slow, *others], NOW + 4 * IDLE_DECAY)


def test_what_an_instance_owes_does_not_fade() -> None:
    hanging, fast = Candidate(latency=0.3, in_flight=1, seen_at=0.0), Candidate(2, latency=0.005)

    assert asked([hanging, fast]) == {fast}
