"""Handshakes that failed at an encrypted registry: counted, and logged once a minute.

Internal.

ZeroMQ reports them on a monitor of the socket, without the address of the client.
"""

from __future__ import annotations

from discovery.native import Log

_log = Log(__name__)

#: Seconds between two log lines.
LOG_INTERVAL = 60.0


class FailedHandshakes:
    """The failed handshakes of one bound socket."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.count = 0
        self._logged_at = float("-inf")
        self._logged = 0

    def saw(self, failures: int, now: float) -> None:
        """Counts handshakes that have failed since the last call."""
        self.count += failures
        if self.count > self._logged and now - self._logged_at >= LOG_INTERVAL:
            self._logged_at, self._logged = now, self.count
            _log.warning(
                "%d handshake(s) failed so far at %s: a peer does not encrypt (SECURITY), or expects another key here",
                self.count, self._url,
            )  # fmt: skip
