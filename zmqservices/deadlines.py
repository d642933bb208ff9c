"""Which calls have run out of time: one look twenty times a second, cheaper than a timer for every call."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent import get_hub

from zmqservices.workers import WorkerPool

#: Seconds between two looks: how late a deadline may be noticed.
INTERVAL = 0.05


class DeadlineScan:
    """Calls `expire(worker_ctx)`, once and from the hub's greenlet, for calls whose deadline has passed."""

    def __init__(self, pool: WorkerPool, expire: Callable[[Any], Any]) -> None:
        self._pool = pool
        self._expire = expire
        self._timer: Any = None
        self.is_watching = False
        #: A test may put another in its place.
        self.clock: Callable[[], float] = monotonic

    def watch(self) -> None:
        """Called for a call with a deadline, unless `is_watching`. The looking ends by itself once there is none any more."""
        if self._timer is None:
            self.is_watching = True
            self._timer = get_hub().loop.timer(INTERVAL, INTERVAL)
            self._timer.start(self.look)

    def look(self) -> None:
        """Expire what has run out of time by now."""
        now = self.clock()
        limited = [
            worker_ctx
            for calls in (self._pool.threads, self._pool.jobs)
            for worker_ctx in calls
            if worker_ctx.deadline is not None and not worker_ctx._is_cancelled
        ]
        for worker_ctx in limited:
            if now >= worker_ctx.deadline:
                self._expire(worker_ctx)
        if not limited:
            self.stop()

    def stop(self) -> None:
        """Stop looking."""
        self.is_watching = False
        if self._timer is not None:
            self._timer.close()
            self._timer = None
