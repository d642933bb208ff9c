"""Claims about the limit of a service that is loaded by simulated callers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from statistics import mean

import pytest

from zmqservices.resilience.concurrency import (
    BURST,
    CALM,
    DEFAULT_MOST,
    INITIAL,
    KNOWN,
    LONGEST_MEASUREMENT,
    MEASURED,
    REMEASURE,
    REST,
    SLACK,
    ConcurrencyLimit,
)

SEEDS = range(2)


@dataclass
class Seen:
    """What a simulated service did: when calls ended and how long each took, how many were refused, and the limit over time."""

    ended: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0
    limits: list[tuple[float, int]] = field(default_factory=list)

    def rate(self, since: float, until: float) -> float:
        return sum(since <= at < until for at, _ in self.ended) / (until - since)

    def slowest(self, since: float, part: float = 0.99) -> float:
        took = sorted(took for at, took in self.ended if at >= since)
        return took[int(len(took) * part)]

    def settled(self, since: float, until: float = 1e9) -> list[int]:
        return [limit for at, limit in self.limits if since <= at < until]


class Service:
    """Calls share `cores`: each takes `work(random, now)` seconds, and longer while more run. `serial` ones run one by one.

    Serial calls do not wait in between, so that only one is ever seen to run: methods that compute in one process.
    """

    def __init__(self, limit: ConcurrencyLimit, work: Callable[[Random, float], float], cores: float, serial: bool) -> None:
        self.limit, self.work, self.cores, self.serial = limit, work, cores, serial
        self.waiting: deque[float] = deque()
        #: Of each call that runs: the work that is left, its arrival, its begin, and how many ran then.
        self.running: list[list[float]] = []
        self.at = 0.0

    def speed(self) -> float:
        return min(1.0, self.cores / len(self.running)) if self.running else 1.0

    def advance(self, now: float) -> None:
        done = (now - self.at) * self.speed()
        for call in self.running:
            call[0] -= done
        self.at = now

    def next_end(self) -> float:
        return self.at + max(0.0, min(call[0] for call in self.running)) / self.speed() if self.running else float("inf")

    def begin(self, now: float, random: Random) -> None:
        most = 1 if self.serial else self.limit.running
        while self.waiting and len(self.running) < most:
            arrived = self.waiting.popleft()
            self.running.append([self.work(random, now), arrived, now, len(self.running) + 1])


def load(
    work: Callable[[Random, float], float],
    cores: float,
    rate: Callable[[float], float],
    seconds: float,
    seed: int = 0,
    most: int = DEFAULT_MOST,
    serial: bool = False,
) -> Seen:
    """What happens to calls that come by chance, `rate(now)` a second. Refused ones do not come back."""
    random, seen = Random(seed), Seen()
    limit = ConcurrencyLimit(0.0, most, random.random)
    service = Service(limit, work, cores, serial)
    arrival, measured_until = 0.0, float("inf")
    while True:
        end = service.next_end()
        now = min(arrival, end, measured_until)
        if now > seconds:
            return seen
        service.advance(now)
        if now == measured_until:
            limit.end_measurement(now)
        elif now == end:
            call = min(service.running)
            beside = int(max(call[3], len(service.running)))
            service.running.remove(call)
            limit.left()
            seen.ended.append((now, now - call[1]))
            if limit.ended("work", call[2] - call[1], now - call[2], beside, now):
                seen.limits.append((now, limit.limit))
        else:
            if limit.may_enter(now):
                limit.entered()
                service.waiting.append(now)
            else:
                seen.refused += 1
            arrival = now + random.expovariate(rate(now))
        service.begin(now, random)
        if not limit.is_measuring:
            measured_until = float("inf")
        elif measured_until == float("inf"):
            measured_until = now + LONGEST_MEASUREMENT


def always(seconds: float) -> Callable[[Random, float], float]:
    return lambda random, now: seconds


def varied(seconds: float) -> Callable[[Random, float], float]:
    return lambda random, now: random.expovariate(1 / seconds)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_limit_finds_how_many_calls_run_side_by_side_without_slowing_each_other(seed: int) -> None:
    seen = load(varied(0.2), cores=20, rate=lambda now: 300.0, seconds=40, seed=seed)

    assert 18 <= mean(seen.settled(15)) <= 45
    assert seen.rate(15, 40) >= 90
    assert seen.slowest(15) <= 2.5  # A call alone takes up to 0.9 s.


@pytest.mark.parametrize("seed", SEEDS)
def test_where_calls_compute_one_by_one_few_wait_and_none_of_the_time_is_lost(seed: int) -> None:
    seen = load(always(0.02), cores=1, rate=lambda now: 150.0, seconds=60, seed=seed, serial=True)

    assert max(seen.settled(10)) <= 6
    assert seen.rate(10, 60) >= 49
    assert seen.slowest(10) <= 0.15


@pytest.mark.parametrize("seed", SEEDS)
def test_after_an_overload_it_grows_back(seed: int) -> None:
    def rate(now: float) -> float:
        return 300.0 if now < 20 else 85.0

    seen = load(varied(0.2), cores=20, rate=rate, seconds=60, seed=seed)

    assert seen.rate(40, 60) >= 80
    assert mean(seen.settled(40)) > 1.2 * mean(seen.settled(10, 20))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_service_that_keeps_up_refuses_next_to_nobody(seed: int) -> None:
    seen = load(varied(0.02), cores=1, rate=lambda now: 30.0, seconds=120, seed=seed, serial=True)

    assert seen.refused <= 0.02 * len(seen.ended)


@pytest.mark.parametrize("seed", SEEDS)
def test_calls_that_only_wait_drive_it_up_to_its_bound_and_chance_does_not_move_it(seed: int) -> None:
    seen = load(varied(0.5), cores=10**6, rate=lambda now: 60.0, seconds=60, seed=seed, most=50)

    assert max(seen.settled(0)) == 50
    assert mean(seen.settled(20)) >= 40


def test_when_all_calls_become_slower_for_good_that_is_measured_and_the_limit_returns() -> None:
    seen = load(lambda random, now: 0.1 if now < 20 else 1.0, cores=20, rate=lambda now: 15.0, seconds=90)

    assert min(seen.settled(20)) < 10
    assert mean(seen.settled(70)) >= 15
    assert seen.rate(70, 90) >= 13  # 15 come.


@pytest.fixture
def limit() -> ConcurrencyLimit:
    return ConcurrencyLimit(0.0, rand=lambda: 0.0)


def fill(limit: ConcurrencyLimit) -> None:
    for _ in range(limit.limit - limit.inside):
        limit.entered()


def test_a_burst_may_exceed_the_limit_for_a_moment(limit: ConcurrencyLimit) -> None:
    fill(limit)

    assert limit.may_enter(1.0)
    assert limit.may_enter(1.0 + 0.9 * BURST)
    assert not limit.may_enter(1.0 + BURST)


def test_after_a_refusal_there_is_no_burst_for_a_while(limit: ConcurrencyLimit) -> None:
    fill(limit)
    assert [limit.may_enter(1.0), limit.may_enter(1.0 + BURST)] == [True, False]

    limit.left()
    assert limit.may_enter(1.5)
    limit.entered()

    assert not limit.may_enter(1.6)
    limit.left()
    assert limit.may_enter(1.6)
    limit.entered()
    assert limit.may_enter(1.6 + REST + 0.01)


def test_a_limit_that_is_not_reached_does_not_grow(limit: ConcurrencyLimit) -> None:
    for tick in range(100):
        limit.entered()
        limit.ended("work", 0.0, 0.01, 1, 1.0 + tick * 0.1)
        limit.left()

    assert limit.limit == INITIAL


def test_one_method_that_takes_long_does_not_make_others_slow(limit: ConcurrencyLimit) -> None:
    for _ in range(KNOWN):
        limit.ended("report", 0.0, 2.0, 1, 3.0)
        limit.ended("ping", 0.0, 0.001, 1, 3.0)
    fill(limit)
    for tick in range(100):
        limit.ended(("report", "ping")[tick % 2], 0.0, (2.0, 0.001)[tick % 2], INITIAL, 3.0 + tick * 0.05)

    assert limit.limit > INITIAL


def test_a_wait_below_the_slack_is_no_overload(limit: ConcurrencyLimit) -> None:
    for _ in range(KNOWN):
        limit.ended("ping", 0.0, 0.0001, 1, 0.5)
    fill(limit)
    for tick in range(100):
        limit.ended("ping", 0.9 * SLACK, 0.0001, 1, 1.0 + tick * 0.05)

    assert limit.limit > INITIAL


def test_where_no_call_ran_in_calm_there_is_a_measurement_in_which_few_run(limit: ConcurrencyLimit) -> None:
    now = 1.0
    while not limit.is_measuring:
        limit.ended("work", 0.0, 0.1, INITIAL, now)
        now += 0.05
    assert now < 3.0
    assert (limit.running, limit.limit) == (CALM, INITIAL)

    limit.ended("work", 0.0, 0.1, INITIAL, now)  # It began before the measurement.
    for _ in range(MEASURED):
        assert limit.is_measuring
        now += 0.1
        limit.ended("work", 0.0, 0.1, CALM, now)

    assert (limit.is_measuring, limit.running) == (False, INITIAL)


def test_what_ran_in_calm_is_not_measured_and_after_a_while_it_is(limit: ConcurrencyLimit) -> None:
    for _ in range(KNOWN):
        limit.ended("work", 0.0, 0.1, 1, 1.0)

    now = 1.0
    while not limit.is_measuring:
        limit.ended("work", 0.0, 0.1, INITIAL, now)
        now += 0.05

    assert REMEASURE <= now - 1.0 <= REMEASURE + 1.5


def test_a_measurement_ends_also_without_calls_and_another_does_not_follow_at_once(limit: ConcurrencyLimit) -> None:
    limit.ended("work", 0.0, 0.5, INITIAL, 1.0)
    limit.ended("work", 0.0, 0.5, INITIAL, 3.0)
    assert limit.is_measuring

    assert limit.end_measurement(5.0)
    assert not limit.end_measurement(5.0)
    for tick in range(60):
        limit.ended("work", 0.0, 0.5, INITIAL, 5.0 + tick * 0.1)

    assert not limit.is_measuring


@pytest.mark.parametrize(("most", "least"), [(1, 1), (3, 3), (50, 4)])
def test_it_stays_within_its_bounds(most: int, least: int) -> None:
    limit = ConcurrencyLimit(0.0, most, lambda: 0.0)
    for _ in range(KNOWN):
        limit.ended("work", 0.0, 0.1, 1, 0.1)
    found = set()

    for tick in range(2000):
        fill(limit)
        limit.ended("work", 10.0 if tick < 1000 else 0.0, 0.1, INITIAL, 1.0 + tick * 0.05)
        limit.end_measurement(1.0 + tick * 0.05)
        found.add(limit.limit)

    assert (min(found), max(found)) == (least, most)
