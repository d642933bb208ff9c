"""Messages that are held back while a batch of quick jobs runs, so that they leave together.

ZeroMQ's own thread, and the one at the other end, are then woken once for all of them instead of for each: a fifth of what a
small call costs under load (bench/). Nobody shall wait long for that, so:

Rule 1: a cork is in only inside one turn of the loop: between `begin` and `end`, or from the second message that `join`s a
turn on until all that could run in it has run.
Rule 2: once the oldest has been held for SLOW seconds, all leave with the next message, or at the end of the turn.
Rule 3: whatever takes SLOW seconds between two messages is no quick job: what was held waited for it. Nothing is held for a
while after that: for FIRST_PAUSE where it happens now and then (a busy machine makes any job slow once), for twice as long
each time that it happens soon again, up to LONGEST_PAUSE, and for PAUSE_PER_LOSS times what was lost in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

#: Seconds that a quick job takes at most. After that time the held messages leave at the next occasion.
SLOW = 0.001

#: Seconds for which nothing is held after that, the first time and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0

#: The least that a pause is, in parts of what the slow job took, and the seconds that this makes at most.
PAUSE_PER_LOSS, LONGEST_FOR_LOSS = 10, 30.0

#: Messages that leave together at most.
MOST = 32

#: Bytes of a message that is not held: handing it on takes ZeroMQ's thread long enough.
LONGEST = 4096

#: Bytes of what leaves together at most, and of the message that holds it.
LARGEST_TOGETHER = MOST * LONGEST + 16


class Cork:
    """`pour(items)` hands on what was held, in its order; it may raise nothing.

    `defer(callback)` calls `callback` once all that can run now has run; None where nothing can promise that.
    """

    __slots__ = ("is_in", "_pour", "_defer", "_is_joined", "_held", "_first_at", "_last_at", "_open_until", "_pause", "_clock")

    def __init__(
        self,
        pour: Callable[[list[Any]], None],
        defer: Callable[[Callable[[], None]], object] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        #: Whether `hold` may be called.
        self.is_in = False
        self._pour = pour
        self._defer = defer
        #: Whether a message has left in this turn already, outside of a batch.
        self._is_joined = False
        self._held: list[Any] = []
        self._first_at = self._last_at = 0.0
        self._open_until = 0.0
        self._pause = FIRST_PAUSE
        self._clock = clock

    def begin(self, now: float) -> None:
        """A batch begins; `now` is monotonic time, as everywhere here."""
        self.is_in = now >= self._open_until

    def join(self, now: float) -> bool:
        """Whether a message outside of a batch may be held. The first message of a turn, which most are, is not."""
        if self._is_joined:
            self.begin(now)
            return self.is_in
        if self._defer is not None:
            self._is_joined = True
            self._defer(self._end_turn)
        return False

    def _end_turn(self) -> None:
        self._is_joined = False
        if self.is_in:
            self.end()

    def hold(self, item: object, now: float) -> None:
        """Hold `item`, or hand on all that is held if it is time."""
        held = self._held
        held.append(item)
        if len(held) == 1:
            self._first_at = now
        elif now - self._last_at > SLOW:
            self.is_in = False
            self._open(now, now - self._last_at)
            self.release()
        elif len(held) >= MOST or now - self._first_at > SLOW:
            self.release()
        self._last_at = now

    def take(self) -> list[Any]:
        """Take back the held items."""
        held, self._held = self._held, []
        return held

    def _open(self, now: float, lost: float) -> None:
        soon = now - lost - self._open_until < self._pause
        pause = min(2 * self._pause, LONGEST_PAUSE) if soon else FIRST_PAUSE
        self._pause = max(pause, min(PAUSE_PER_LOSS * lost, LONGEST_FOR_LOSS))
        self._open_until = now + self._pause

    def release(self) -> None:
        """Hand on the held items."""
        if self._held:
            self._pour(self.take())

    def end(self) -> None:
        """The batch is over."""
        self.is_in = False
        if self._held:
            now = self._clock()
            if now - self._last_at > SLOW:
                self._open(now, now - self._last_at)
            self.release()
