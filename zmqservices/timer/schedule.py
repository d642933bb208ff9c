"""When the ticks of a timer are due: every `interval` seconds, counted from the start and not from the last tick.

Internal. Services use `zmqservices.timer`.

Rule 1: no clock, no greenlets here; `now` is always an argument (seconds, monotonic).
Rule 2: tick `n` is due `n` intervals after the start, however long the ticks before it took.
"""

from __future__ import annotations

import math


class Schedule:
    """The schedule of one timer. Tick when `wait` returns 0, and call `ticked` when the tick is over.

    `eager`: the first tick is due at once. `catches_up`: ticks that were missed while one ran are due as soon as it is over;
    without it they are left out.
    """

    def __init__(self, interval: float, now: float, eager: bool = False, catches_up: bool = False) -> None:
        self.interval = interval
        self._start = now
        self._catches_up = catches_up
        self._next = 0 if eager else 1

    @property
    def due(self) -> float:
        """The time of the next tick."""
        return self._start + self._next * self.interval

    def wait(self, now: float) -> float:
        """Seconds until the next tick; 0 when it is due."""
        return max(0.0, self.due - now)

    def ticked(self, now: float) -> int:
        """Called when the tick that was due is over. Returns how many ticks were missed meanwhile and are left out."""
        self._next += 1
        if self._catches_up or now <= self.due or not self.interval:
            return 0
        # A tick that is due right now is not missed.
        missed = math.ceil((now - self._start) / self.interval) - self._next
        self._next += missed
        return missed
