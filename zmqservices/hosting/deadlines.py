"""Which calls have run out of time, and what that says of those that wait: one look twenty times a second.

That is cheaper than a timer for every call, and than a look at every call whether the queue is too long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from gevent import get_hub

from zmqservices.hosting.workers import WorkerPool
from zmqservices.worker_context import WorkerContext

#: Seconds between two looks: how late a deadline may be noticed.
INTERVAL = 0.05


class DeadlineScan:
    """Calls `expire(worker_ctx)`, once and from the hub's greenlet, for calls whose deadline has passed."""

    def __init__(self, pool: WorkerPool[WorkerContext], expire: Callable[[WorkerContext], object]) -> None:
        self._pool = pool
        self._expire = expire
        self._timer: Any = None
        self.is_watching = False
        #: A test may put another in its place.
        self.clock: Callable[[], float] = monotonic

    def watch(self) -> None:
        """Begin to watch, for a call with a deadline. The watch ends by itself when no call has a deadline any more."""
        if self._timer is None:
            self.is_watching = True
            self._timer = get_hub().loop.timer(INTERVAL, INTERVAL)
            self._timer.start(self.look)

    def look(self) -> None:
        """Expire the calls whose deadline has passed."""
        now = self.clock()
        running, waiting = self._limited(self._pool.threads), self._limited(self._pool.jobs)
        for deadline, worker_ctx in (*running, *waiting):
            if now >= deadline:
                self._expire(worker_ctx)
        self._choose_an_order(waiting, now)
        if not (running or waiting):
            self.stop()

    @staticmethod
    def _limited(calls: Iterable[WorkerContext]) -> list[tuple[float, WorkerContext]]:
        return [(call.deadline, call) for call in calls if call.deadline is not None and not call._is_cancelled]

    def _choose_an_order(self, waiting: list[tuple[float, WorkerContext]], now: float) -> None:
        # More comes than can be served where the oldest has waited for half of its time. In their order each would begin when
        # its time is all but over, and its answer would come too late: all work would be for nothing. The newest have time.
        oldest = next(((deadline, call) for deadline, call in waiting if not call._is_cancelled), None)
        self._pool.newest_first = oldest is not None and now - oldest[1]._queued_at > oldest[0] - now

    def stop(self) -> None:
        """End the watch."""
        self.is_watching = False
        self._pool.newest_first = False
        if self._timer is not None:
            self._timer.close()
            self._timer = None
