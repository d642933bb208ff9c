"""Tells of what broken or hostile clients send: counted, and logged once a minute, however much of it there is.

Internal. Services use `zmqservices.web.handlers`.

Rule 1: no sockets, no greenlets, no clock here; `now` is always an argument.
Rule 2: telling never raises, and what is told is bounded.
"""

from __future__ import annotations

import logging

#: Seconds between two lines of one guard.
INTERVAL = 60.0
#: Characters of what is told of one fault.
LONGEST = 300


class Guard:
    """`what` begins each line, such as "a request was refused". `level` is the level of all its lines."""

    def __init__(self, logger: logging.Logger, what: str, level: int = logging.INFO) -> None:
        self.count = 0
        self._logger = logger
        self._what = what
        self._level = level
        self._untold = 0
        self._told_at: float | None = None

    def caught(self, peer: str, exc: BaseException, now: float, trace: bool = False) -> None:
        """Count one fault of `peer`, and log it unless another was logged within the last minute."""
        self.count += 1
        self._untold += 1
        if self._told_at is not None and now - self._told_at < INTERVAL:
            return
        untold, self._untold, self._told_at = self._untold, 0, now
        others = f" ({untold - 1} others since the last such line)" if untold > 1 else ""
        self._logger.log(self._level, "%s (%s): %s%s", self._what, peer, text_of(exc), others, exc_info=exc if trace else None)


def text_of(exc: BaseException) -> str:
    """What an error says, without what breaks a line of a log, and bounded; its class where it cannot say it."""
    try:
        text = str(exc)[:LONGEST]
        return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text) or type(exc).__name__
    except Exception:
        return type(exc).__name__
