"""Counts messages of peers that cannot be handled, and logs them once a minute for each peer."""

from __future__ import annotations

import logging
from time import monotonic

#: Seconds between two log lines about one peer, so that a peer that sends garbage cannot fill the log.
LOG_INTERVAL = 60.0

#: The most peers with separate log lines within LOG_INTERVAL. Further peers share one, so that many names cannot fill the log.
MOST_PEERS = 50
_OTHERS = "others"


class Faults:
    """The faulty messages that one socket has received, from all peers."""

    __slots__ = ("count", "_log", "_untold", "_next_line", "_line")

    def __init__(self, log: logging.Logger, line: str = "%s sent what cannot be handled (%d such messages): %s") -> None:
        #: The number of faulty messages so far.
        self.count = 0
        self._log = log
        #: The log line: takes the peer, the faults since its last line, and the reason.
        self._line = line
        #: By peer: the faults since its last log line, and the time from which the next line may be logged.
        self._untold: dict[str, int] = {}
        self._next_line: dict[str, float] = {}

    def saw(self, peer: str, fault: object, unexpected: BaseException | None = None) -> None:
        """Count a message of `peer` that cannot be handled; `fault` is the reason.

        `unexpected`: the error that the message caused in this package. It is a bug, so its traceback is logged.
        """
        self.count += 1
        now = monotonic()
        key = peer
        if key not in self._next_line and len(self._next_line) >= MOST_PEERS:
            self._forget_quiet_ones(now)
            if len(self._next_line) >= MOST_PEERS:
                key = _OTHERS
        since = self._untold.get(key, 0) + 1
        if now < self._next_line.get(key, 0.0):
            self._untold[key] = since
            return
        self._next_line[key] = now + LOG_INTERVAL
        self._untold[key] = 0
        self._log.warning(self._line, peer, since, fault, exc_info=unexpected)

    def _forget_quiet_ones(self, now: float) -> None:
        for key in [key for key, due in self._next_line.items() if due <= now]:
            del self._next_line[key]
            self._untold.pop(key, None)
