"""The retry budget of one service: how many of its calls may be repeated.

Without a bound, repeated calls keep a service overloaded that could otherwise recover (a retry storm).

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: each call earns `ratio` of a repeat, and each second earns `per_second`. Earned repeats fade over KEPT seconds, so that a
quiet hour does not pay for a storm.
Rule 3: the first link that is lost after KEPT seconds without a loss is free: one failed instance is no storm, so all its calls
may move to other instances. If instances fail again and again, repeats must be earned.
"""

from __future__ import annotations

from math import exp

#: Seconds over which unused repeats fade.
KEPT = 10.0


class RetryBudget:
    """The budget of one service at one caller. It begins with as many repeats as KEPT quiet seconds earn."""

    __slots__ = ("ratio", "per_second", "_tokens", "_calls", "_at", "_lost_at", "_paid")

    def __init__(self, ratio: float, per_second: float, now: float) -> None:
        self.ratio = ratio
        self.per_second = per_second
        self._tokens = per_second * KEPT
        self._calls = 0
        self._at = now
        self._lost_at = now - KEPT
        #: The free repeats that are left from the last lost link.
        self._paid = 0

    def earn(self, calls: int, now: float) -> float:
        """Earn repeats for new calls and for the time. `calls`: all calls so far. Returns the repeats that may be spent."""
        usual = self.per_second * KEPT
        self._tokens = usual + (self._tokens - usual) * exp((self._at - now) / KEPT) + self.ratio * (calls - self._calls)
        self._calls, self._at = calls, now
        return self._tokens

    def spend(self, calls: int, now: float) -> bool:
        """Spend one repeat. Returns False if there is none."""
        if self._paid:
            self._paid -= 1
            return True
        return self.spend_earned(calls, now)

    def spend_earned(self, calls: int, now: float) -> bool:
        """Spend one earned repeat on a second attempt (hedging). Returns False if there is none; free repeats do not count."""
        if not self.is_on or self.earn(calls, now) < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def link_lost(self, in_flight: int, calls: int, now: float) -> None:
        """A link was lost with `in_flight` calls of the service in flight."""
        self.earn(calls, now)
        self._paid = in_flight if now - self._lost_at >= KEPT and self.is_on else 0
        self._lost_at = now

    @property
    def is_on(self) -> bool:
        """Whether the settings allow any repeat at all."""
        return self.ratio > 0.0 or self.per_second > 0.0
