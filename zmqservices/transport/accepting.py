"""Lets a bound socket take new connections only as long as the process has descriptors for them."""

from __future__ import annotations

import logging

from discovery.accepting import AcceptGuard
from zmqservices.transport.reactor import Reactor, ReactorTimer

_log = logging.getLogger(__name__)


class Accepting:
    """Checks the listener of `endpoint` from time to time. Close this before the socket."""

    def __init__(self, reactor: Reactor, endpoint: str) -> None:
        self._reactor = reactor
        self._guard = AcceptGuard(endpoint, _log.warning)
        self._timer: ReactorTimer | None = None
        self._look()

    def _look(self) -> None:
        pause = self._guard.check()
        self._timer = None if pause is None else self._reactor.call_later(pause, self._look)

    def close(self) -> None:
        self._guard.close()
        if self._timer is not None:
            self._timer.cancel()
