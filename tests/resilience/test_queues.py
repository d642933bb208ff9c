"""Claims about what answers say of queues, and about how many callers spread with it over a simulated cluster."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from zmqservices.resilience.balance import Load, choose, count_others, weigh
from zmqservices.resilience.queues import REMEMBERED, InstanceQueue, estimate

NOW = 100.0


def heard(waiting: int, own: int = 0, took: float = 1.0, at: float = NOW) -> InstanceQueue:
    queue = InstanceQueue()
    queue.heard(waiting, own, took, at)
    return queue


def test_the_own_calls_in_flight_are_subtracted() -> None:
    assert [heard(5, own).others for own in (0, 2, 5, 9)] == [5, 3, 0, 0]


def test_where_nobody_waits_there_is_nothing_to_tell() -> None:
    assert estimate([heard(0), InstanceQueue()], NOW) == []


def test_a_fresh_answer_counts_fully() -> None:
    assert estimate([heard(6), heard(0)], NOW) == [6.0, 0.0]


def test_what_an_answer_says_fades_towards_the_mean_in_the_time_that_it_took() -> None:
    queues = [heard(6, took=0.2), heard(0, took=0.4)]

    assert estimate(queues, NOW + 0.1) == pytest.approx([4.5, 0.75])
    assert estimate(queues, NOW + 0.2) == pytest.approx([3.0, 1.5])
    assert estimate(queues, NOW + 0.4) == pytest.approx([3.0, 3.0])


def test_an_instance_that_was_not_heard_of_has_the_mean_queue() -> None:
    assert estimate([heard(6), heard(2), InstanceQueue()], NOW) == [6.0, 2.0, 4.0]


def test_after_a_while_nothing_is_left() -> None:
    assert estimate([heard(6, took=0.1)], NOW + REMEMBERED) == []
    assert estimate([heard(6, took=30.0)], NOW + 15.0) == [6.0]
    assert estimate([heard(6, took=30.0)], NOW + 30.0) == []


def test_an_answer_that_took_no_time_is_out_of_date_at_once() -> None:
    assert estimate([heard(4, took=0.0), heard(0)], NOW + 0.001) == pytest.approx([2.0, 0.002])


# --- balancing ---------------------------------------------------------------------------------------------


class Candidate:
    def __init__(self, server: Server | None = None) -> None:
        self.server = server
        self.load = Load()


def test_of_equally_busy_instances_the_one_where_fewer_others_wait_is_asked() -> None:
    candidates = [Candidate() for _ in range(3)]
    for candidate, waiting in zip(candidates, (4, 1, 3), strict=True):
        candidate.load.queue.heard(waiting, 0, 1.0, NOW)

    assert count_others(candidates, NOW)
    assert {choose(candidates, "work", lambda roll=roll: roll / 3) for roll in range(3)} == {candidates[1]}
    assert not count_others(candidates, NOW + REMEMBERED)
    assert {choose(candidates, "work", lambda roll=roll: roll / 3) for roll in range(3)} == set(candidates)


# --- many callers ------------------------------------------------------------------------------------------


class Server:
    """Runs one call at a time, the others in their order."""

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque()
        self.is_busy = False


def found_queues(tells: bool, clients: int, servers: int, pause: float, takes: Callable[[Random], float], seed: int) -> list[int]:
    """How many calls each call found before it, sorted. Every client makes a call, pauses, and makes the next one.

    Messages take 0.2 ms. With `tells`, answers say how many calls wait.
    """
    random, numbers = Random(seed), itertools.count()
    running = [Server() for _ in range(servers)]
    views = [[Candidate(server) for server in running] for _ in range(clients)]
    moments: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
    found: list[int] = []

    def later(at: float, action: Callable[..., None], *args: Any) -> None:
        heapq.heappush(moments, (at, next(numbers), action, args))

    def call(now: float, view: list[Candidate]) -> None:
        weigh(view, "work", now)
        count_others(view, now)
        chosen = choose(view, "work", random.random)
        ahead = chosen.load.in_flight
        chosen.load.in_flight += 1
        later(now + 0.0002, arrive, chosen, (view, chosen, now, ahead))

    def arrive(now: float, chosen: Candidate, job: Any) -> None:
        assert chosen.server is not None
        found.append(len(chosen.server.waiting) + chosen.server.is_busy)
        chosen.server.waiting.append(job)
        begin(now, chosen.server)

    def begin(now: float, server: Server) -> None:
        if server.waiting and not server.is_busy:
            server.is_busy = True
            later(now + takes(random), end, server, server.waiting.popleft())

    def end(now: float, server: Server, job: Any) -> None:
        server.is_busy = False
        later(now + 0.0002, answer, job, len(server.waiting))
        begin(now, server)

    def answer(now: float, job: Any, waiting: int) -> None:
        view, chosen, began, ahead = job
        chosen.load.in_flight -= 1
        chosen.load.saw("work", now - began, ahead, now)
        if tells:
            chosen.load.queue.heard(waiting, chosen.load.in_flight, now - began, now)
        later(now + random.expovariate(1 / pause), call, view)

    for view in views:
        random.shuffle(view)
        later(random.random() * pause, call, view)
    while len(found) < 4000:
        now, _, action, args = heapq.heappop(moments)
        action(now, *args)
    return sorted(found)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("takes", "pause"),
    [(lambda random: 0.01, 0.03), (lambda random: random.expovariate(100), 0.05)],
    ids=["calls that are alike", "calls that differ"],
)
def test_many_callers_spread_better_by_what_answers_say(takes: Callable[[Random], float], pause: float, seed: int) -> None:
    blind, told = (found_queues(tells, 40, 4, pause, takes, seed) for tells in (False, True))
    p99 = len(blind) * 99 // 100

    assert told[p99] <= 0.8 * blind[p99]
    assert sum(told) < sum(blind)
