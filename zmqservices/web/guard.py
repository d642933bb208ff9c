"""Counts faults of broken or hostile clients, and logs them at most once a minute.

Internal. Services use `zmqservices.web.handlers`.

Rule 1: no sockets, no greenlets, no clock here; `now` is always an argument.
Rule 2: counting and logging never raise, and the log lines are bounded.
"""

from __future__ import annotations

import logging

#: Seconds between two log lines of one guard.
INTERVAL = 60.0
#: The most characters that are logged of one fault.
LONGEST = 300


class RateLimit:
    """At most `most` things in a second. The second begins with the first of them."""

    __slots__ = ("_began", "_count", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._began = float("-inf")

    def allows(self, now: float) -> bool:
        """Count one thing more. Returns whether it is allowed."""
        if now - self._began >= 1.0:
            self._count, self._began = 0, now
        self._count += 1
        return self._count <= self._most


class Guard:
    """The faults of one kind. `what` begins each log line, such as "a request was refused"; `level` is their level."""

    def __init__(self, logger: logging.Logger, what: str, level: int = logging.INFO) -> None:
        self.count = 0
        self._logger = logger
        self._what = what
        self._level = level
        self._untold = 0
        self._told_at: float | None = None

    def caught(self, peer: str, exc: BaseException, now: float, trace: bool = False) -> None:
        """Count one fault of `peer`, and log it unless one was logged in the last minute."""
        self.count += 1
        self._untold += 1
        if self._told_at is not None and now - self._told_at < INTERVAL:
            return
        untold, self._untold, self._told_at = self._untold, 0, now
        others = f" ({untold - 1} others since the last such line)" if untold > 1 else ""
        self._logger.log(self._level, "%s (%s): %s%s", self._what, peer, text_of(exc), others, exc_info=exc if trace else None)


def text_of(exc: BaseException) -> str:
    """The text of an error on one line, bounded; its class if its text cannot be made."""
    try:
        text = str(exc)[:LONGEST]
        return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text) or type(exc).__name__
    except Exception:
        return type(exc).__name__
