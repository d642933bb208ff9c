"""Claims about how bursts are spread over a simulated cluster; a client there knows only what it sent itself."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from statistics import mean

import pytest

from zmqservices.resilience.balance import Load, choose, weigh

SEEDS = range(5)

#: Seconds that a call takes at an instance of the usual speed.
TAKES = 0.6


class Server:
    """One instance: `slowness` times slower than others, `workers` calls at a time, the others in their order."""

    def __init__(self, slowness: float, workers: int) -> None:
        self.slowness = slowness
        self.workers = workers
        self.free_at = [0.0] * workers

    def take(self, now: float, takes: float) -> float:
        """When the call will have ended."""
        end = max(heapq.heappop(self.free_at), now) + takes * self.slowness
        heapq.heappush(self.free_at, end)
        return end


class Candidate:
    """A server as one client sees it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.load = Load()


class Client:
    def __init__(self, servers: Sequence[Server], random: Random) -> None:
        self.random = random
        self.candidates = [Candidate(server) for server in servers]
        random.shuffle(self.candidates)

    def choose(self, method: str, now: float) -> Candidate:
        weigh(self.candidates, method, now)
        return choose(self.candidates, method, self.random.random)


def burst(clients: Sequence[Client], calls: int, now: float, method: str = "work", takes: float = TAKES) -> tuple[float, Counter]:
    """Each client makes so many calls at once. Answers how long all took, and how many each server had."""
    ends, share = [], Counter()
    for _ in range(calls):
        for number, client in enumerate(clients):
            candidate = client.choose(method, now)
            end = candidate.server.take(now, takes)
            ends.append((end, number, len(ends), candidate, candidate.load.in_flight))
            candidate.load.in_flight += 1
            share[candidate.server] += 1
    for end, _, _, candidate, ahead in sorted(ends, key=lambda each: each[:3]):
        candidate.load.in_flight -= 1
        candidate.load.saw(method, end - now, ahead, end)
    return max(ends)[0] - now, share


def best(servers: Sequence[Server], calls: int, takes: float = TAKES) -> float:
    """The least time in which so many calls can be answered."""
    free = [(takes * server.slowness, takes * server.slowness) for server in servers for _ in range(server.workers)]
    heapq.heapify(free)
    for _ in range(calls):
        longest, each = heapq.heappop(free)
        heapq.heappush(free, (longest + each, each))
    return longest


def rounds(
    servers: Sequence[Server], clients: int, calls: int, seed: int, count: int = 6, pause: float = 1.0
) -> Iterator[tuple[float, Counter]]:
    """Of several bursts, the first by fresh clients: how many times as long as it could it took, and the shares."""
    random = Random(seed)
    crowd = [Client(servers, random) for _ in range(clients)]
    now = 0.0
    for _ in range(count):
        took, share = burst(crowd, calls, now)
        yield took / best(servers, calls * clients), share
        now += took + pause


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [1, 10])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 10])
def test_a_call_for_each_worker_takes_no_longer_than_one(size: int, workers: int, seed: int) -> None:
    servers = [Server(1.0, workers) for _ in range(size)]

    for ratio, share in rounds(servers, 1, size * workers, seed):
        assert ratio == pytest.approx(1.0)
        assert set(share.values()) == {workers}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("calls", [4, 8, 16, 32, 33, 64])
@pytest.mark.parametrize("size", [2, 3, 4, 10])
def test_bursts_take_no_longer_than_they_must(size: int, calls: int, seed: int) -> None:
    servers = [Server(1.0, 1) for _ in range(size)]

    assert [ratio for ratio, _ in rounds(servers, 1, calls, seed)] == pytest.approx([1.0] * 6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_worker", [2, 4, 8])
@pytest.mark.parametrize("size", [2, 4, 10])
def test_an_instance_that_is_ten_times_slower_gets_a_tenth(size: int, per_worker: int, seed: int) -> None:
    servers = [Server(10.0, 1), *(Server(1.0, 1) for _ in range(size - 1))]
    calls = size * per_worker

    # What nobody has seen nobody knows: the first burst is spread evenly.
    _, *others = rounds(servers, 1, calls, seed, count=11)

    # Now and then a call looks whether it is still slow.
    assert sum(ratio > 1.3 for ratio, _ in others) <= 3
    assert mean(ratio for ratio, _ in others) <= 1.2
    assert all(share[servers[0]] <= 1 + max(share.values()) / 10 for _, share in others)


@pytest.mark.parametrize("clients", [2, 8, 40])
@pytest.mark.parametrize("per_client", [4, 12])
def test_bursts_of_many_clients_at_once_are_spread(clients: int, per_client: int) -> None:
    def ratios(seed: int) -> list[float]:
        servers = [Server(1.0, 1) for _ in range(4)]
        return [ratio for ratio, _ in rounds(servers, clients, per_client, seed, count=10)]

    assert mean(ratio for seed in SEEDS for ratio in ratios(seed)) <= 1.2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clients", [2, 8, 40])
def test_many_clients_together_give_a_tenth_to_one_that_is_ten_times_slower(clients: int, seed: int) -> None:
    servers = [Server(10.0, 1), *(Server(1.0, 1) for _ in range(3))]

    _, *others = rounds(servers, clients, 12, seed)

    assert mean(share[servers[0]] / share.total() for _, share in others) <= 0.15


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("workers", [1, 10])
def test_fresh_clients_spread_evenly_each_time(size: int, workers: int, seed: int) -> None:
    servers = [Server(1.0, workers) for _ in range(size)]
    random, now = Random(seed), 0.0

    for _ in range(5):
        took, share = burst([Client(servers, random)], 2 * size * workers, now)
        assert took == pytest.approx(2 * TAKES)
        assert set(share.values()) == {2 * workers}
        now += took


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("calls", [4, 8, 16, 32])
def test_one_that_was_measured_and_three_that_were_not_are_equal(calls: int, seed: int) -> None:
    servers = [Server(1.0, 1) for _ in range(4)]
    client = Client(servers, Random(seed))
    took, _ = burst([client], 1, 0.0)

    took, share = burst([client], calls, took)

    assert took == pytest.approx(best(servers, calls))
    assert set(share.values()) == {calls // 4}


@pytest.mark.parametrize("seed", SEEDS)
def test_how_long_one_method_takes_says_nothing_of_another(seed: int) -> None:
    servers = [Server(1.0, 1) for _ in range(4)]
    client = Client(servers, Random(seed))
    now, _ = burst([client], 1, 0.0, "report", 5.0)
    for _ in range(3):
        took, _ = burst([client], 1, now, "ping", 0.001)
        now += took

    _, share = burst([client], 8, now)

    assert set(share.values()) == {2}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_method_that_takes_now_long_and_now_not_makes_nobody_slow(seed: int) -> None:
    servers = [Server(1.0, 1) for _ in range(3)]
    client = Client(servers, Random(seed))
    now, _ = burst([client], 1, 0.0, takes=0.001)

    for takes in (0.6, 0.6, 0.001, 0.6):
        took, share = burst([client], 6, now, takes=takes)
        assert set(share.values()) == {2}
        now += took


@pytest.mark.parametrize("seed", SEEDS)
def test_of_more_instances_than_are_compared_none_gets_many(seed: int) -> None:
    servers = [Server(1.0, 1) for _ in range(40)]

    for ratio, share in rounds(servers, 1, 80, seed):
        assert max(share.values()) <= 4
        assert ratio <= 2.0
