"""Which of several instances is asked: the one where a call costs least (weighted least requests).

Rule 1: no sockets, no greenlets, no clock here; `now` is always an argument.
Rule 2: calls in flight decide first. An instance costs its calls in flight and one more, each times its weight, and the
weight is 1 unless it is certain to be more than ALIKE times slower than the fastest: an instance that is ten times slower
gets a tenth of a burst, and small differences, which are chance, do not disturb an even spread. Equals are chosen by lot.
The calls of others that wait there (`zmqservices.resilience.queues`) count as calls in flight.
Rule 3: up to COMPARED instances are all compared. Of more, as many neighbours from a random place on.
Rule 4: latency is known by method, and is a moving average with a deviation: of a method that takes now a second and now a
millisecond nothing is certain. An answer that may have waited behind others says only between which two
values the latency is. An instance that was not measured yet is taken for the median of those that were.
Rule 5: what was seen of an instance that has no calls fades towards that median over IDLE_DECAY seconds: it must be asked
to be known again, or a single slow answer would keep it from all calls for good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from random import random
from statistics import median_low
from typing import Protocol, TypeVar

from zmqservices.resilience.queues import InstanceQueue, estimate

#: The part of a new answer in the average, at least. So little that the queues of others, which nobody here sees, are no
#: difference between instances; an answer that takes a hundred times as long makes one ten times slower all the same.
GAIN = 0.1

KEPT = 1.0 - GAIN

#: Seconds after which an old average counts for little besides a new answer, and those after which it counts for no less.
DECAY, SOON = 100.0, 0.1

#: Seconds over which the latency of an instance fades that has no calls, at least and at most, and the calls that it could
#: have answered meanwhile: to ask one that is slow for good, which ends this, costs somebody a slow call.
IDLE_DECAY, LONGEST_IDLE_DECAY, IDLE_CALLS = 5.0, 60.0, 20

#: How many times slower than the fastest an instance may be and still counts as equal. More would leave so much of a burst
#: to the slower one that the whole takes over 1.2 times as long as it could.
ALIKE = 1.25

#: Instances that are compared for one call.
COMPARED = 10

#: Seconds for which the weights of COMPARED instances are used; those of twice as many for twice as long, and so on.
WEIGHED_FOR = 0.02

#: What a call costs where nothing is known, or nothing that matters.
EVEN = (1.0, 1.0)

#: What it costs where an instance seems to be UNLIKE times slower than the fastest, and may not be: it is asked after those
#: that have as many calls, and before those that have more.
UNLIKE, AFTER_EQUALS = 2.0, (1.0, 1.5)

#: The least latency that is told from none, seconds.
LEAST = 1e-6


class Pace:
    """How long calls of one method take at one instance."""

    __slots__ = ("latency", "deviation", "seen_at")

    def __init__(self, latency: float, now: float) -> None:
        self.latency = latency
        #: How far answers are from that: the largest, which fades with those that are nearer. At first half of it (RFC 6298).
        self.deviation = latency / 2
        self.seen_at = now

    def saw(self, latency: float, ahead: int, now: float) -> None:
        """An answer took `latency` seconds; at most `ahead` calls were answered before it."""
        # Without calls of functions where it can be: this runs for each answer where there are several instances.
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
        """What is left of the latency where nothing was called since: it goes towards `typical`."""
        decay = min(max(IDLE_DECAY, IDLE_CALLS * self.latency), LONGEST_IDLE_DECAY)
        kept = exp((self.seen_at - now) / decay)
        return float(typical * (self.latency / typical) ** kept)


class Load:
    """What one instance carries, as this process sees it."""

    __slots__ = ("in_flight", "answers", "paces", "weights", "share", "distance", "queue", "others")

    def __init__(self) -> None:
        self.in_flight = 0
        #: Answers so far, where there was a choice of instances.
        self.answers = 0
        #: By method.
        self.paces: dict[str, Pace] = {}
        #: How many calls it should get, compared with others, and how many more it is taken to have in flight.
        self.share, self.distance = 1.0, 0.0
        #: What the answers say of the queue there, and how many calls of others wait in it by that.
        self.queue = InstanceQueue()
        self.others = 0.0
        #: By method: what each call in flight costs, and what the next one does.
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
        """A call of `method` was given up after `seconds`: it would have taken longer. It is no answer."""
        pace = self.paces.get(method)
        if pace is None:
            self.paces[method] = Pace(max(seconds, LEAST), now)
        elif seconds > pace.latency:
            pace.saw(seconds, ahead, now)


class Loaded(Protocol):
    load: Load


Candidate = TypeVar("Candidate", bound=Loaded)


def weigh(candidates: Sequence[Loaded], method: str, now: float) -> float:
    """Set the weights of all candidates for calls of `method`. Answers until when they hold."""
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
    """Set how many calls of others wait at each candidate. False where none do: then this need not be done for the next call."""
    estimates = estimate([each.load.queue for each in candidates], now)
    for position, each in enumerate(candidates):
        each.load.others = estimates[position] if estimates else 0.0
    return bool(estimates)


def choose(candidates: Sequence[Candidate], method: str, rand: Callable[[], float] = random) -> Candidate:
    """The one of `candidates` (at least one) where a call of `method` costs least. `weigh` them first, now and then."""
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
