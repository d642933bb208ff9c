"""How many calls of others wait at each instance of a service, by what its answers say.

A caller sees only its own calls in flight. Where many callers share a few instances, most of each queue is made of others' calls.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: an answer says how many calls waited when it left. Those that this caller has in flight there are subtracted: they are
counted already.
Rule 3: what one answer says is out of date once as much time has passed as that answer took: by then the calls that waited are
answered (Little's law). Until then it counts less and less.
Rule 4: it fades towards the mean of the instances, and not towards nothing: an instance that was not heard of has probably as
long a queue as the others. So has one whose node does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

#: Seconds for which an answer counts in the mean, or for as long as it took where that is longer.
REMEMBERED = 1.0

#: The least time that an answer takes, seconds.
LEAST = 1e-6


class InstanceQueue:
    """The calls of others that wait at one instance, as its last answer said."""

    __slots__ = ("others", "heard_at", "took")

    def __init__(self) -> None:
        self.others = 0
        #: When the last answer came, and how long it took, in seconds. Minus infinity before the first.
        self.heard_at = -inf
        self.took = LEAST

    def heard(self, waiting: int, own: int, took: float, now: float) -> None:
        """An answer that took `took` seconds says that `waiting` calls wait; this caller has `own` calls in flight there."""
        self.others = waiting - own if waiting > own else 0
        self.heard_at = now
        self.took = took if took > LEAST else LEAST

    def is_recent(self, now: float) -> bool:
        """Whether what the last answer said counts still."""
        age = now - self.heard_at
        return age < REMEMBERED or age < self.took


def estimate(queues: Sequence[InstanceQueue], now: float) -> list[float]:
    """How many calls of others wait at each instance now; an empty list once there is nothing to tell them apart."""
    recent = [queue.others for queue in queues if queue.is_recent(now)]
    if not any(recent):
        return []
    mean = sum(recent) / len(recent)
    estimates = []
    for queue in queues:
        age = (now - queue.heard_at) / queue.took
        estimates.append(mean + (queue.others - mean) * (1.0 - age) if age < 1.0 else mean)
    return estimates
