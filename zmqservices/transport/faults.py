"""What peers send that cannot be handled: counted for each socket, and logged once a minute."""

from __future__ import annotations

import logging
from time import monotonic

#: Seconds between two lines about the messages of one socket; whoever sends junk must not fill a log with it.
LOG_INTERVAL = 60.0


class Faults:
    """The faulty messages that one socket has received."""

    __slots__ = ("count", "_log", "_told", "_next_line")

    def __init__(self, log: logging.Logger) -> None:
        #: All of them so far.
        self.count = 0
        self._log = log
        self._told = 0
        self._next_line = 0.0

    def saw(self, peer: str, fault: object, unexpected: BaseException | None = None) -> None:
        """`peer` sent a message that cannot be handled, for the reason that `fault` says.

        `unexpected`: the error that a message caused in our own code; its traceback is logged, as that is a bug.
        """
        self.count += 1
        now = monotonic()
        if now < self._next_line:
            return
        self._next_line = now + LOG_INTERVAL
        since = self.count - self._told
        self._told = self.count
        self._log.warning("%s sent what cannot be handled (%d such messages): %s", peer, since, fault, exc_info=unexpected)
