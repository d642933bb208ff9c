"""Estimates how many calls of other callers wait at each instance of a service, from its answers.

A caller sees only its own calls in flight. If many callers share a few instances, most of each queue is calls of others.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: an answer says how many calls waited when it left. The caller's own calls in flight there are subtracted, because they
are counted already.
Rule 3: this number is out of date once as much time has passed as the answer took: by then the waiting calls are answered
(Little's law). Until then it counts less and less.
Rule 4: the number fades towards the mean of the instances, not towards zero: an instance without recent answers probably has as
long a queue as the others. The same holds for an instance whose node does not tell the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

#: Seconds for which an answer counts in the mean. An answer that took longer counts for as long as it took.
REMEMBERED = 1.0

#: Seconds. A faster answer counts as if it took this long.
LEAST = 1e-6


class InstanceQueue:
    """The calls of other callers that wait at one instance, by its last answer."""

    __slots__ = ("others", "heard_at", "took")

    def __init__(self) -> None:
        self.others = 0
        #: The time of the last answer, and the seconds that it took. Minus infinity before the first answer.
        self.heard_at = -inf
        self.took = LEAST

    def heard(self, waiting: int, own: int, took: float, now: float) -> None:
        """An answer that took `took` seconds says that `waiting` calls wait; this caller has `own` calls in flight there."""
        self.others = waiting - own if waiting > own else 0
        self.heard_at = now
        self.took = took if took > LEAST else LEAST

    def is_recent(self, now: float) -> bool:
        """Whether the last answer still counts."""
        age = now - self.heard_at
        return age < REMEMBERED or age < self.took


def estimate(queues: Sequence[InstanceQueue], now: float) -> list[float]:
    """The calls of other callers that wait at each instance now; an empty list if nothing is known that tells instances apart."""
    recent = [queue.others for queue in queues if queue.is_recent(now)]
    if not any(recent):
        return []
    mean = sum(recent) / len(recent)
    estimates = []
    for queue in queues:
        age = (now - queue.heard_at) / queue.took
        estimates.append(mean + (queue.others - mean) * (1.0 - age) if age < 1.0 else mean)
    return estimates
