"""A worker pool with an adaptive limit (`max_workers: auto`). Its size and the number of accepted calls follow call durations.

Internal. The rules are in `zmqservices.resilience.concurrency`. An entrypoint that can refuse calls asks `may_enter` for each
call, and reports accepted calls with `entered`. Events and timers are never refused; they run within the size of the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from zmqservices.hosting.workers import WorkerPool
from zmqservices.resilience.concurrency import LONGEST_MEASUREMENT, ConcurrencyLimit
from zmqservices.worker_context import WorkerContext


class LimitedWorkerPool(WorkerPool[WorkerContext]):
    """Runs `run_job(job, now)` for each submitted job. The limit says how many run at the same time; it is at most `most`."""

    def __init__(self, run_job: Callable[[WorkerContext, float], object], most: int) -> None:
        self.limit = ConcurrencyLimit(monotonic(), most)
        super().__init__(self._run_timed, self.limit.running)
        self._run = run_job
        #: The accepted calls that are not over.
        self._inside: set[WorkerContext] = set()
        self._measurement: Any = None

    def may_enter(self) -> bool:
        """Whether another call may be accepted. If this is False, refuse the call."""
        return self.limit.may_enter(monotonic())

    def entered(self, job: WorkerContext) -> None:
        """Count a submitted call, which has not begun, against the limit."""
        self._inside.add(job)
        self.limit.entered()
        # Already set if the call has a deadline.
        job._queued_at = job._queued_at or monotonic()

    def why_full(self) -> str:
        """Why calls are refused, for the text of the error."""
        return f"{self.limit.inside} calls are under way; max_workers is auto, and {self.limit.limit} now"

    def drop(self, job: WorkerContext) -> None:
        super().drop(job)
        self._leave(job)

    def drop_all(self) -> list[WorkerContext]:
        jobs = super().drop_all()
        for job in jobs:
            self._leave(job)
        return jobs

    def _leave(self, job: WorkerContext) -> bool:
        if job not in self._inside:
            return False
        self._inside.remove(job)
        self.limit.left()
        return True

    def _run_timed(self, job: WorkerContext, now: float) -> object:
        beside = len(self.threads)
        is_late = job.deadline is not None and now >= job.deadline
        try:
            is_spent = self._run(job, now)
        finally:
            # The wait of an event or timer does not count: it cannot be refused, so its wait is no reason to refuse calls.
            waited = now - job._queued_at if self._leave(job) else 0.0
        if not is_late:
            ended = monotonic()
            beside = max(beside, len(self.threads))
            if self.limit.ended(job.entrypoint.method_name, waited, ended - now, beside, ended):
                self._resize()
        # A worker takes the next job without a check of the size, so if there are too many workers, one must end.
        return is_spent or len(self.threads) > self.size

    def _resize(self) -> None:
        grows, self.size = self.limit.running > self.size, self.limit.running
        if self.limit.is_measuring and self._measurement is None:
            self._measurement = self._own_hub().loop.timer(LONGEST_MEASUREMENT, ref=False)
            self._measurement.start(self._measured_enough)
        elif not self.limit.is_measuring:
            self._stop_measuring()
        if grows:
            if self.jobs and not self._flush_is_due:
                self._arrange_flush()
            self._tell_watchers()

    def _measured_enough(self) -> None:
        self.limit.end_measurement(monotonic())
        self._resize()

    def _stop_measuring(self) -> None:
        if self._measurement is not None:
            self._measurement.close()
            self._measurement = None

    def release(self) -> None:
        super().release()
        self._stop_measuring()
