"""Chooses among instances that are not equal: by zone, by announced weight, and by age.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: an instance gets calls in proportion to its share. The share is its announced weight; for a new instance it begins as a
part of the weight and grows.
Rule 3: `distance` calls in flight are added to an instance in another zone. So the caller's own zone is asked until it is that
much busier, or until none of its instances can be asked.
Rule 4: latency and calls in flight count as in `zmqservices.resilience.balance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from random import random, sample

from zmqservices.resilience.balance import EVEN, Candidate, Load

#: The share of a new instance at the beginning, as a part of its full share.
FIRST_SHARE = 0.1

#: The least share. An instance with the weight 0 has it, too, and is asked when all others are busy.
LEAST_SHARE = 0.001

#: The most instances that are compared for one call. If there are more, this many are picked at random.
COMPARED = 100


@dataclass(frozen=True)
class Preferences:
    """What a caller prefers. `zone`: the caller's own; `distance`: calls; `slow_start`: seconds, or 0 for none."""

    zone: str | None = None
    distance: float = 0.0
    slow_start: float = 0.0

    def apply(self, load: Load, zone: str | None, weight: float, age: float) -> bool:
        """Set share and distance of an instance that is `age` seconds old. Returns whether they differ from the defaults."""
        share = max(weight, LEAST_SHARE)
        if age < self.slow_start:
            share *= FIRST_SHARE + (1.0 - FIRST_SHARE) * max(age, 0.0) / self.slow_start
        load.share = share
        load.distance = self.distance if self.zone is not None and zone != self.zone else 0.0
        return share != 1.0 or load.distance > 0.0


def choose_preferred(candidates: Sequence[Candidate], method: str, rand: Callable[[], float] = random) -> Candidate:
    """The candidate (of at least one) to ask. As `balance.choose`, for instances that are not equal.

    The cost of the next call is random, with the same mean for all. So if no calls are in flight, an instance's chance is its
    share.
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
