"""Whether a silent node is suspect: only if it was asked, and had the time to answer.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: silence counts from the first question on. A node that has nothing to say is silent, and so is one that works on the
only call it has.
Rule 3: a beat that comes late proves nothing: this process did something else meanwhile, and an answer may be there unread.
"""

from __future__ import annotations

#: Questions without an answer after which a node is suspect; so that lost ones are forgiven.
SILENT_BEATS = 3

#: Beats after the last one at which a beat is late.
LATE_BEAT = 1.5


class Silence:
    """Counts the questions to one node that were not answered."""

    __slots__ = ("_unanswered", "_last_beat")

    def __init__(self) -> None:
        self._unanswered = 0
        self._last_beat = 0.0

    def beat(self, now: float, heartbeat: float, heard_at: float) -> int:
        """To be called once per `heartbeat` seconds. Answers which question without an answer is due now; 0 for none."""
        is_late = now - self._last_beat > LATE_BEAT * heartbeat
        if heard_at >= self._last_beat:
            self._unanswered = 0
        self._last_beat = now
        if now - heard_at < heartbeat:
            return 0
        if not is_late or not self._unanswered:
            self._unanswered += 1
        return self._unanswered
