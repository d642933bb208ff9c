"""Balances calls over several instances: asks the one where a call costs least (weighted least requests).

Rule 1: no sockets, no greenlets, no clock here; `now` is always an argument.
Rule 2: calls in flight decide first. The cost of an instance is its calls in flight plus one, times its weight. The weight is
1 unless the instance is certain to be more than ALIKE times slower than the fastest. So an instance that is ten times slower
gets a tenth of a burst, and small random differences do not disturb an even spread. Among equals, chance decides. Waiting
calls of other callers (`zmqservices.resilience.queues`) count as calls in flight.
Rule 3: up to COMPARED instances are all compared. If there are more, COMPARED neighbours from a random position are.
Rule 4: latency is kept for each method, as a moving average with a deviation; nothing is certain about a method that takes
sometimes a second and sometimes a millisecond. An answer that may have waited behind others only gives a lower and an upper
bound. An instance without measurements is given the median of the measured ones.
Rule 5: the latency of an instance without calls fades towards that median over IDLE_DECAY seconds. Otherwise a single slow
answer would keep the instance from all calls for ever, because only calls measure it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from random import random
from statistics import median_low
from typing import Protocol, TypeVar

from zmqservices.resilience.queues import InstanceQueue, estimate

#: The least weight of a new answer in the average. It is so small that the queues of other callers, which cannot be seen here,
#: make no difference between instances. Still, one answer that takes a hundred times as long makes the average ten times as
#: long.
GAIN = 0.1

KEPT = 1.0 - GAIN

#: The seconds over which an old average fades beside a new answer, and the seconds before it begins to fade.
DECAY, SOON = 100.0, 0.1

#: The latency of an instance without calls fades over the time in which it could have answered IDLE_CALLS calls, within these
#: bounds in seconds. Each time it has faded, one call finds out anew that the instance is slow, and is slow itself.
IDLE_DECAY, LONGEST_IDLE_DECAY, IDLE_CALLS = 5.0, 60.0, 20

#: How many times slower than the fastest an instance may be and still count as equal. With more, the slower instance would get
#: so large a part of a burst that the whole burst takes over 1.2 times as long as it could.
ALIKE = 1.25

#: The most instances that are compared for one call.
COMPARED = 10

#: Seconds for which the weights of COMPARED instances are used; the weights of twice as many are used twice as long, and so on.
WEIGHED_FOR = 0.02

#: The cost of a call at an instance of unknown or usual latency.
EVEN = (1.0, 1.0)

#: The cost of a call at an instance that seems to be UNLIKE times slower than the fastest, without certainty. It is asked after
#: instances with as many calls, and before instances with more.
UNLIKE, AFTER_EQUALS = 2.0, (1.0, 1.5)

#: Seconds. A shorter latency counts as this long.
LEAST = 1e-6


class Pace:
    """The latency of one method at one instance."""

    __slots__ = ("latency", "deviation", "seen_at")

    def __init__(self, latency: float, now: float) -> None:
        self.latency = latency
        #: How far answers are from the average: the largest difference, which fades as nearer answers come. At first half the
        #: latency (RFC 6298).
        self.deviation = latency / 2
        self.seen_at = now

    def saw(self, latency: float, ahead: int, now: float) -> None:
        """An answer took `latency` seconds; at most `ahead` calls were answered before it."""
        # Written without function calls where possible: this runs for every answer of a service with several instances.
        known = self.latency
        found = known
        if latency < known:
            found = latency
        elif latency > known * (ahead + 1):
            found = latency / (ahead + 1)
        miss = found - known if found > known else known - found
        deviation = self.deviation
        self.deviation = miss if miss > deviation else deviation + (miss - deviation) * GAIN
        if found != known:
            kept = KEPT
            if now - self.seen_at > SOON:
                kept *= exp((self.seen_at - now) / DECAY)
            self.latency = found + (known - found) * kept
        self.seen_at = now

    def idle(self, typical: float, now: float) -> float:
        """The latency to assume now if nothing was called since: it has faded towards `typical`."""
        decay = min(max(IDLE_DECAY, IDLE_CALLS * self.latency), LONGEST_IDLE_DECAY)
        kept = exp((self.seen_at - now) / decay)
        return float(typical * (self.latency / typical) ** kept)


class Load:
    """The load of one instance, as this process sees it."""

    __slots__ = ("in_flight", "answers", "paces", "weights", "share", "distance", "queue", "others")

    def __init__(self) -> None:
        self.in_flight = 0
        #: The number of answers so far to calls that could choose between instances.
        self.answers = 0
        #: The latencies by method.
        self.paces: dict[str, Pace] = {}
        #: The share of calls that this instance should get compared with others, and the calls in flight that are added to its
        #: own.
        self.share, self.distance = 1.0, 0.0
        #: The queue at the instance as its answers describe it, and the calls of other callers that are estimated to wait there.
        self.queue = InstanceQueue()
        self.others = 0.0
        #: By method: the cost of each call in flight, and the cost of the next call.
        self.weights: dict[str, tuple[float, float]] = {}

    def saw(self, method: str, latency: float, ahead: int, now: float) -> None:
        """A call of `method` took `latency` seconds; `ahead` calls were in flight when it was sent."""
        self.answers += 1
        pace = self.paces.get(method)
        if latency < LEAST:
            latency = LEAST
        if pace is None:
            self.paces[method] = Pace(latency, now)
        else:
            pace.saw(latency, ahead, now)

    def outlasted(self, method: str, seconds: float, ahead: int, now: float) -> None:
        """A call of `method` was given up after `seconds`, so its latency is at least that. It does not count as an answer."""
        pace = self.paces.get(method)
        if pace is None:
            self.paces[method] = Pace(max(seconds, LEAST), now)
        elif seconds > pace.latency:
            pace.saw(seconds, ahead, now)


class Loaded(Protocol):
    load: Load


Candidate = TypeVar("Candidate", bound=Loaded)


def weigh(candidates: Sequence[Loaded], method: str, now: float) -> float:
    """Set the weights of all candidates for calls of `method`. Returns the time until which they may be used."""
    paces = [each.load.paces.get(method) for each in candidates]
    known = [pace for pace in paces if pace is not None]
    if known:
        typical, fastest = median_low([pace.latency for pace in known]), min(pace.latency for pace in known)
        slow = ALIKE * min(pace.latency + pace.deviation for pace in known)
        weights = [_weights(pace, slow, fastest, typical, now) for pace in known]
        usual, following = median_low(weights), iter(weights)
        for each, pace in zip(candidates, paces, strict=True):
            each.load.weights[method] = usual if pace is None else next(following)
    return now + WEIGHED_FOR * max(1.0, len(candidates) / COMPARED)


def _weights(pace: Pace, slow: float, fastest: float, typical: float, now: float) -> tuple[float, float]:
    following = pace.idle(typical, now) / fastest
    if pace.latency - pace.deviation > slow:
        return pace.latency / fastest, following if following > ALIKE else 1.0
    return EVEN if following <= UNLIKE else AFTER_EQUALS


def count_others(candidates: Sequence[Loaded], now: float) -> bool:
    """Estimate how many calls of others wait at each candidate. Returns False if none do; then the next call skips this."""
    estimates = estimate([each.load.queue for each in candidates], now)
    for position, each in enumerate(candidates):
        each.load.others = estimates[position] if estimates else 0.0
    return bool(estimates)


def choose(candidates: Sequence[Candidate], method: str, rand: Callable[[], float] = random) -> Candidate:
    """The candidate (of at least one) where a call of `method` costs least. Call `weigh` before if the weights are outdated."""
    count = len(candidates)
    place = int(rand() * count)
    best, least = candidates[place], -1.0
    for _ in range(count if count < COMPARED else COMPARED):
        candidate = candidates[place]
        place += 1
        if place == count:
            place = 0
        load = candidate.load
        each, following = load.weights.get(method, EVEN)
        cost = (load.in_flight + load.others) * each + following
        if cost < least or least < 0.0:
            best, least = candidate, cost
    return best
