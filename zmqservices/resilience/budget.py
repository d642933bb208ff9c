"""How often the calls of one service may be repeated: for a part of its calls, and some times per second besides.

Without a bound, callers that repeat calls keep a service in trouble that could recover (a retry storm).

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: each call earns `ratio` of a repeat, and each second `per_second`. What was earned fades over KEPT seconds: a quiet hour
does not pay for a storm.
Rule 3: the first link that is lost after KEPT seconds without a loss is paid for: the failure of one instance is no storm, and
all calls that it had may move. An instance that fails again and again is paid for by what was earned alone.
"""

from __future__ import annotations

from math import exp

#: Seconds over which unused repeats fade.
KEPT = 10.0


class RetryBudget:
    """The budget of one service at one caller. It begins with the repeats of KEPT quiet seconds."""

    __slots__ = ("ratio", "per_second", "_tokens", "_calls", "_at", "_lost_at", "_paid")

    def __init__(self, ratio: float, per_second: float, now: float) -> None:
        self.ratio = ratio
        self.per_second = per_second
        self._tokens = per_second * KEPT
        self._calls = 0
        self._at = now
        self._lost_at = now - KEPT
        #: Repeats that are left of those that the last lost link was paid with.
        self._paid = 0

    def earn(self, calls: int, now: float) -> float:
        """Count the calls that were made since the last time; `calls` is their number so far. Answers what may be spent."""
        usual = self.per_second * KEPT
        self._tokens = usual + (self._tokens - usual) * exp((self._at - now) / KEPT) + self.ratio * (calls - self._calls)
        self._calls, self._at = calls, now
        return self._tokens

    def spend(self, calls: int, now: float) -> bool:
        """Take one repeat; False where there is none."""
        if self._paid:
            self._paid -= 1
            return True
        return self.spend_earned(calls, now)

    def spend_earned(self, calls: int, now: float) -> bool:
        """Take one second attempt (hedging); False where there is none. What a lost link was paid with is left for its calls."""
        if not self.is_on or self.earn(calls, now) < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def link_lost(self, in_flight: int, calls: int, now: float) -> None:
        """A link was lost with so many calls of the service in flight."""
        self.earn(calls, now)
        self._paid = in_flight if now - self._lost_at >= KEPT and self.is_on else 0
        self._lost_at = now

    @property
    def is_on(self) -> bool:
        """Whether anything is ever repeated."""
        return self.ratio > 0.0 or self.per_second > 0.0
