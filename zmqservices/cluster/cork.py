"""Messages that are held back while a batch of quick jobs runs, so that they leave together.

ZeroMQ's own thread, and the one at the other end, are then woken once for all of them instead of for each: a fifth of what a
small call costs under load (bench/). Nobody may wait longer for it than the loop would have made him wait anyway, so:

Rule 1: a cork is in only inside one turn of the loop, between `begin` and `end`.
Rule 2: nothing is held for more than SLOW seconds.
Rule 3: whatever takes SLOW seconds between two messages is no quick job: for OPEN_FOR seconds nothing is held any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Seconds that a message is held at most, and that a quick job takes at most.
SLOW = 0.001

#: Seconds for which nothing is held after that.
OPEN_FOR = 1.0

#: Messages that leave together at most.

MOST = 32

#: Bytes of a message that is not held: handing it on takes ZeroMQ's thread long enough.
LONGEST = 4096


class Cork:
    """`pour(items)` hands on what was held, in its order; it may raise nothing."""

    __slots__ = ("is_in", "_pour", "_held", "_first_at", "_last_at", "_open_until")

    def __init__(self, pour: Callable[[list[Any]], None]) -> None:
        #: Whether `hold` may be called.
        self.is_in = False
        self._pour = pour
        self._held: list[Any] = []
        self._first_at = self._last_at = 0.0
        self._open_until = 0.0

    def begin(self, now: float) -> None:
        """A batch begins; `now` is monotonic time, as everywhere here."""
        self.is_in = now >= self._open_until

    def hold(self, item: Any, now: float) -> None:
        """Keep `item` for later, or not, if its turn has come."""
        held = self._held
        held.append(item)
        if len(held) == 1:
            self._first_at = now
        elif now - self._last_at > SLOW:
            self.is_in = False
            self._open_until = now + OPEN_FOR
            self.release()
        elif len(held) >= MOST or now - self._first_at > SLOW:
            self.release()
        self._last_at = now

    def release(self) -> None:
        """Hand on what is held."""
        if self._held:
            held, self._held = self._held, []
            self._pour(held)

    def end(self, clock: Callable[[], float]) -> None:
        """The batch is over."""
        self.is_in = False
        if self._held:
            now = clock()
            if now - self._last_at > SLOW:
                self._open_until = now + OPEN_FOR
            self.release()
