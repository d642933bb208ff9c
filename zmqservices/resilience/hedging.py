"""When an unanswered call is also sent to a second instance (hedging). The first answer counts.

Most very slow answers are bad luck: the instance collects garbage, or is frozen. Then a second attempt is answered sooner.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: a call is hedged once it has taken longer than PART of the last calls of its method (their 95th percentile), so that in
normal times at most one of twenty calls is made twice.
Rule 3: the duration of a hedged call is counted from its first attempt. If the second attempt answers, the first would have
taken even longer, so PART of the durations is still below the delay.
Rule 4: no call is hedged for REFUSED_PAUSE seconds after an instance refused a call because its queue is full. More calls would
make that worse.
"""

from __future__ import annotations

from collections import deque

#: The part of the calls that is not hedged.
PART = 0.95

#: How many durations are remembered, how many are needed before a call is hedged, and after how many the delay is computed anew.
WINDOW, LEAST, LOOK_EVERY = 200, 20, 10

#: No call is hedged before this many seconds, or with less time left: a second attempt takes about this long to travel.
SHORTEST_DELAY = 0.002

#: Seconds without hedging after a full instance refused a call.
REFUSED_PAUSE = 1.0


class Durations:
    """The durations of the last calls of one method.

    `delay`: seconds after which a call is hedged; None while too few durations are known.
    """

    __slots__ = ("delay", "_last", "_unseen")

    def __init__(self) -> None:
        self.delay: float | None = None
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._unseen = 0

    def add(self, seconds: float) -> None:
        """A call took `seconds` from its first attempt to its answer."""
        self._last.append(seconds)
        self._unseen += 1
        if self._unseen >= LOOK_EVERY and len(self._last) >= LEAST:
            self._unseen = 0
            self.delay = max(sorted(self._last)[int(len(self._last) * PART)], SHORTEST_DELAY)


def is_worth_it(time_left: float | None) -> bool:
    """Whether a second attempt may be answered in the seconds that the call has left (None: no limit)."""
    return time_left is None or time_left > SHORTEST_DELAY
