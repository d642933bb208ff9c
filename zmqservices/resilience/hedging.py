"""When a call that was not answered yet is sent to a second instance as well (hedging). The first answer counts.

Most of a long tail is chance: an instance that collects garbage, or that is frozen. A second attempt then answers sooner.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: a call is hedged once it has taken longer than PART of the last calls of its method (p95), so that at most one of
twenty calls is made twice while all is well.
Rule 3: how long a hedged call took is counted from its first attempt. Then PART of the calls stays PART: an answer of the
second attempt shows that the first one would have taken longer.
Rule 4: nothing is hedged for REFUSED_PAUSE seconds after an instance refused a call because its queue is full: more calls
would make that worse.
"""

from __future__ import annotations

from collections import deque

#: The part of the calls that are not hedged.
PART = 0.95

#: Durations that are remembered, those that are needed before any call is hedged, and how many come between two looks at them.
WINDOW, LEAST, LOOK_EVERY = 200, 20, 10

#: Seconds before which no call is hedged, and that it must have left: a second attempt takes about as long to travel.
SHORTEST_DELAY = 0.002

#: Seconds.
REFUSED_PAUSE = 1.0


class Durations:
    """How long the last calls of one method took.

    `delay` is after how many seconds a call is hedged; None while that is unknown.
    """

    __slots__ = ("delay", "_last", "_unseen")

    def __init__(self) -> None:
        self.delay: float | None = None
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._unseen = 0

    def add(self, seconds: float) -> None:
        """A call took so long, from its first attempt to its answer."""
        self._last.append(seconds)
        self._unseen += 1
        if self._unseen >= LOOK_EVERY and len(self._last) >= LEAST:
            self._unseen = 0
            self.delay = max(sorted(self._last)[int(len(self._last) * PART)], SHORTEST_DELAY)


def is_worth_it(time_left: float | None) -> bool:
    """Whether a second attempt can be answered in the time that the call has left; None for no end."""
    return time_left is None or time_left > SHORTEST_DELAY
