"""Finds calls whose deadline has passed, and queues that are too long, by looking twenty times a second.

That takes less time than a timer for every call, or a check of the queue at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from gevent import get_hub

from zmqservices.hosting.workers import WorkerPool
from zmqservices.worker_context import WorkerContext

#: Seconds between two looks. A deadline may be noticed so much later.
INTERVAL = 0.05


class DeadlineScan:
    """Calls `expire(worker_ctx)` once, in the hub's greenlet, for each call whose deadline has passed."""

    def __init__(self, pool: WorkerPool[WorkerContext], expire: Callable[[WorkerContext], object]) -> None:
        self._pool = pool
        self._expire = expire
        self._timer: Any = None
        self.is_watching = False
        #: The clock. A test may replace it.
        self.clock: Callable[[], float] = monotonic

    def watch(self) -> None:
        """Begin to look, because there is a call with a deadline. It ends by itself once no call has one."""
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
        # If the oldest call has waited for half of its time, more calls arrive than can be served. In order, each call would
        # begin when its time is nearly over, and all answers would come too late. So the newest calls, which have time, begin
        # first.
        oldest = next(((deadline, call) for deadline, call in waiting if not call._is_cancelled), None)
        self._pool.newest_first = oldest is not None and now - oldest[1]._queued_at > oldest[0] - now

    def stop(self) -> None:
        """Stop looking."""
        self.is_watching = False
        self._pool.newest_first = False
        if self._timer is not None:
            self._timer.close()
            self._timer = None
