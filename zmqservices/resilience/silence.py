"""Decides when a silent node is suspect: only if it was asked, and had time to answer.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: silence is counted from the first unanswered question. A node that is idle, or works on its only call, is silent too.
Rule 3: a heartbeat that comes late proves nothing, because this process was busy itself and an answer may lie unread.
"""

from __future__ import annotations

#: Unanswered questions after which a node is suspect. More than one, so that a lost question is forgiven.
SILENT_BEATS = 3

#: A heartbeat is late if it comes more than this many intervals after the one before.
LATE_BEAT = 1.5


class Silence:
    """Counts the questions to one node that were not answered."""

    __slots__ = ("_unanswered", "_last_beat")

    def __init__(self) -> None:
        self._unanswered = 0
        self._last_beat = 0.0

    def beat(self, now: float, heartbeat: float, heard_at: float) -> int:
        """To be called every `heartbeat` seconds. Returns the number of the unanswered question to send now; 0 for none."""
        is_late = now - self._last_beat > LATE_BEAT * heartbeat
        if heard_at >= self._last_beat:
            self._unanswered = 0
        self._last_beat = now
        if now - heard_at < heartbeat:
            return 0
        if not is_late or not self._unanswered:
            self._unanswered += 1
        return self._unanswered
