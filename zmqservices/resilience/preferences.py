"""Which of several instances is asked where they are not equal: by zone, by announced weight, and by how new they are.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: an instance gets calls in proportion to its share, which is its announced weight; of a new one, a part that grows.
Rule 3: an instance in another zone is taken to have `distance` more calls in flight. So the own zone is asked until it is that
much busier, or until nobody there can be asked.
Rule 4: what `zmqservices.resilience.balance` knows of latency and calls in flight counts as it does among equals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from random import random, sample

from zmqservices.resilience.balance import EVEN, Candidate, Load

#: The share of a new instance at first, of its full one.
FIRST_SHARE = 0.1

#: The least share, also of an instance with the weight 0: it is asked when all others are busy.
LEAST_SHARE = 0.001

#: Instances that are compared for one call; of more, as many by lot.
COMPARED = 100


@dataclass(frozen=True)
class Preferences:
    """What a caller prefers. `zone` is its own; `distance` in calls; `slow_start` in seconds, 0 for none."""

    zone: str | None = None
    distance: float = 0.0
    slow_start: float = 0.0

    def apply(self, load: Load, zone: str | None, weight: float, age: float) -> bool:
        """Set the share and the distance of an instance that has been there for `age` seconds. Answers whether it is no equal."""
        share = max(weight, LEAST_SHARE)
        if age < self.slow_start:
            share *= FIRST_SHARE + (1.0 - FIRST_SHARE) * max(age, 0.0) / self.slow_start
        load.share = share
        load.distance = self.distance if self.zone is not None and zone != self.zone else 0.0
        return share != 1.0 or load.distance > 0.0


def choose_preferred(candidates: Sequence[Candidate], method: str, rand: Callable[[], float] = random) -> Candidate:
    """The one of `candidates` (at least one) to ask, as `balance.choose` for those that are not equal.

    The next call costs something random, with the same mean for all: where nothing is in flight the chance is the share.
    """
    if len(candidates) > COMPARED:
        candidates = sample(candidates, COMPARED)
    best, least = candidates[0], -1.0
    for candidate in candidates:
        load = candidate.load
        each, following = load.weights.get(method, EVEN)
        cost = ((load.in_flight + load.others) * each - log(1.0 - rand()) * following) / load.share + load.distance
        if cost < least or least < 0.0:
            best, least = candidate, cost
    return best
