"""How long a client of an engine waits for an answer, and how long it pauses before it asks again.

When many clients start at once, an engine answers all of them late. A client that gives up and asks again at once has the engine
do the same work again, so that it answers nobody.

Rule 1: no sockets, no threads, no clock here.
Rule 2: each overdue answer doubles the patience, up to GROWTH times the first one. This counts over all attempts of a client.
Rule 3: an answer halves it. It stays at least twice as long as this answer took, and never falls below the first one.
Rule 4: one overdue renewal does not end a session with an engine that has one server; see `goes_on`.
Rule 5: after an overdue answer a client pauses for a random part of its patience ("full jitter"), so that clients that gave up
together do not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable

#: How many times longer than at first a client waits at most. Beyond that, the engine is more likely to be gone than busy.
GROWTH = 8


#: Overdue answers in a row that end a session, and the part of a lease's time after which one overdue answer does.
OVERDUE, USED = 2, 0.6
#: Seconds until an overdue renewal is sent again.
RENEW_AGAIN = 0.5


def goes_on(overdue: int, used: float, servers: int) -> bool:
    """Whether a session goes on after a renewal was overdue, `overdue` times in a row by now.

    A new session reads everything again, which an overloaded engine can do least of all. But another server may be less busy,
    and may still save the leases. `used`: the part of their time, from 0 to 1, that has passed since they were renewed.
    """
    return servers == 1 and overdue < OVERDUE and used < USED


class Patience:
    """The patience of one client with one engine. `first`: seconds, at first."""

    def __init__(self, first: float) -> None:
        self._first = first
        #: Seconds to wait for an answer now.
        self.seconds = first
        #: Overdue answers in a row.
        self.overdue = 0

    def was_overdue(self) -> None:
        """An answer did not come within `seconds`."""
        self.overdue += 1
        self.seconds = min(self.seconds * 2, self._first * GROWTH)

    def was_answered(self, took: float) -> None:
        """An answer came after `took` seconds."""
        self.overdue = 0
        if self.seconds > self._first:
            self.seconds = min(self.seconds, max(self._first, self.seconds / 2, took * 2))

    def pause(self, rand: Callable[[], float] = random.random) -> float:
        """Seconds until the next attempt may begin; 0 unless the last answer was overdue. `rand`: from 0 to 1."""
        return rand() * self.seconds if self.overdue else 0.0
