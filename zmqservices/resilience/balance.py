"""Which of several instances is asked: the better of two random ones (power of two choices).

Rule 1: no sockets, no greenlets, no clock here; `now` is always an argument.
Rule 2: the better one has the lower `cost`: calls in flight times latency, where latency is a peak EWMA: a slow answer
counts at once, fast ones bring it down over DECAY seconds (after Finagle's and Tower's peak EWMA).
Rule 3: what was seen of one that is not asked any more fades over IDLE_DECAY seconds: it must be asked to be known again,
or a single slow answer would keep it from all calls for good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from random import random
from typing import Protocol, TypeVar

#: Seconds over which an old latency fades.
DECAY = 10.0

#: Seconds over which the latency of an instance fades that has no calls.
IDLE_DECAY = 2.0

#: Seconds of latency that an instance is given before it was ever heard: little, so that a new one is tried soon.
UNMEASURED = 0.001


class Load:
    """What one instance carries, as this process sees it."""

    __slots__ = ("in_flight", "latency", "_seen_at")

    def __init__(self) -> None:
        self.in_flight = 0
        self.latency = UNMEASURED
        self._seen_at = 0.0

    def saw(self, latency: float, now: float) -> None:
        """An answer took `latency` seconds."""
        if latency >= self.latency:
            self.latency = latency
        else:
            kept = exp((self._seen_at - now) / DECAY)
            self.latency = latency + (self.latency - latency) * kept
        self._seen_at = now

    def cost(self, now: float) -> float:
        """How much there is against asking it, seconds."""
        if self.in_flight:
            return (self.in_flight + 1) * self.latency
        return self.latency * exp((self._seen_at - now) / IDLE_DECAY)


class Loaded(Protocol):
    load: Load


Candidate = TypeVar("Candidate", bound=Loaded)


def choose(candidates: Sequence[Candidate], now: float, rand: Callable[[], float] = random) -> Candidate:
    """One of `candidates` (at least one): of two picked at random, the one that costs less at `now`."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    first = int(rand() * count)
    second = int(rand() * (count - 1))
    if second >= first:
        second += 1
    one, other = candidates[first], candidates[second]
    return one if one.load.cost(now) <= other.load.cost(now) else other
