"""Coalescing: holds small messages while a batch of quick jobs runs, so that they are sent together.

ZeroMQ's threads at both ends are then woken once for all messages and not once for each, which saves a fifth of a small call's
cost under load (bench/). These rules keep messages from being held for long:

Rule 1: messages are held only within one turn of the event loop: between `begin` and `end`, or from the second message that
`join`s a turn until everything that could run in the turn has run.
Rule 2: once the oldest message has been held for SLOW seconds, all are sent with the next message, or at the end of the turn.
Rule 3: a job that takes SLOW seconds between two messages has delayed the held messages. After that nothing is held for a pause:
FIRST_PAUSE for a rare slow job (on a busy machine any job may be slow once), and twice as long each time that it soon happens
again, up to LONGEST_PAUSE; but at least PAUSE_PER_LOSS times the time that was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

#: The most seconds that a quick job takes. After that time the held messages are sent at the next opportunity.
SLOW = 0.001

#: Seconds for which nothing is held after a slow job: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0

#: A pause is at least this many times as long as the slow job, but this reason makes it no longer than LONGEST_FOR_LOSS seconds.
PAUSE_PER_LOSS, LONGEST_FOR_LOSS = 10, 30.0

#: The most messages that are sent together.
MOST = 32

#: A message of this many bytes or more is not held, since waking ZeroMQ's thread is a small part of its cost.
LONGEST = 4096

#: The most bytes of the messages that are sent together, with the BATCH around them.
LARGEST_TOGETHER = MOST * LONGEST + 16


class Cork:
    """Holds items until they are due. `pour(items)` sends them in order and must raise nothing.

    `defer(callback)` calls `callback` after everything that can run now; None if the reactor cannot do that.
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
        #: Whether a message was already sent in this turn, outside a batch.
        self._is_joined = False
        self._held: list[Any] = []
        self._first_at = self._last_at = 0.0
        self._open_until = 0.0
        self._pause = FIRST_PAUSE
        self._clock = clock

    def begin(self, now: float) -> None:
        """A batch begins. `now` is monotonic seconds, here and below."""
        self.is_in = now >= self._open_until

    def join(self, now: float) -> bool:
        """Whether a message outside a batch may be held. The first message of a turn, often the only one, may not."""
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
        """Hold `item`, or send all held items if they are due."""
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
        """Send the held items."""
        if self._held:
            self._pour(self.take())

    def end(self) -> None:
        """The batch is over: send the held items."""
        self.is_in = False
        if self._held:
            now = self._clock()
            if now - self._last_at > SLOW:
                self._open(now, now - self._last_at)
            self.release()
