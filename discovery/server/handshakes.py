"""Handshakes that failed at an encrypted registry: counted, and logged once a minute.

Internal.

ZeroMQ reports them on a monitor of the socket, without the address of the client.
"""

from __future__ import annotations

import zmq

from discovery import sockets
from discovery.native import Log

_log = Log(__name__)

#: Seconds between two log lines.
LOG_INTERVAL = 60.0
#: The most events that are read at once, before the registry goes on.
BATCH = 500


class FailedHandshakes:
    """The failed handshakes of one bound socket. Used by the thread that owns the socket, and closed before the socket."""

    def __init__(self, socket: zmq.Socket[bytes], url: str) -> None:
        self._socket = socket
        self._url = url
        #: Becomes readable when there is something to `look` at.
        self.monitor = sockets.handshake_monitor_of(socket)
        self.count = 0
        self._logged_at = float("-inf")
        self._logged = 0

    def look(self, now: float) -> None:
        """Counts the handshakes that have failed since the last look."""
        for _ in range(BATCH):
            if sockets.monitored_event(self.monitor) is None:
                break
            self.count += 1
        if self.count > self._logged and now - self._logged_at >= LOG_INTERVAL:
            self._logged_at, self._logged = now, self.count
            _log.warning(
                "%d handshake(s) failed so far at %s: a peer does not encrypt (SECURITY), or expects another key here",
                self.count, self._url,
            )  # fmt: skip

    def close(self) -> None:
        """Ends the monitor. Called before the socket is closed: ZeroMQ must not send to a monitor that nobody reads."""
        self._socket.disable_monitor()
        self.monitor.close(0)
