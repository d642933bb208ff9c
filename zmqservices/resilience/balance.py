"""Which of several instances is asked: the better of two random ones (power of two choices).

Rule 1: no sockets, no greenlets, no clock here; `now` is always an argument.
Rule 2: the better one has the lower `cost`: calls in flight times latency, where latency is a peak EWMA: a slow answer
counts at once, fast ones bring it down over DECAY seconds (after Finagle's and Tower's peak EWMA).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from random import random
from typing import Protocol, TypeVar

#: Seconds over which an old latency fades.
DECAY = 10.0

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

    def cost(self) -> float:
        return (self.in_flight + 1) * self.latency


class Loaded(Protocol):
    load: Load


Candidate = TypeVar("Candidate", bound=Loaded)


def choose(candidates: Sequence[Candidate], rand: Callable[[], float] = random) -> Candidate:
    """One of `candidates` (at least one): of two picked at random, the one that costs less."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    first = int(rand() * count)
    second = int(rand() * (count - 1))
    if second >= first:
        second += 1
    one, other = candidates[first], candidates[second]
    return one if one.load.cost() <= other.load.cost() else other
