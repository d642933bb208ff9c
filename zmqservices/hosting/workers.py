"""The pool of greenlets that run a container's jobs.

Jobs are collected in a queue. `flush`, called in the hub's greenlet, switches to idle workers. A worker takes the next job before
it becomes idle, so a batch of jobs that do not block needs two greenlet switches in all. When a job blocks, control returns to
`flush`, which switches to another worker while jobs wait and fewer than `size` run.

Rule 1: everything here runs on one hub's thread.
Rule 2: if jobs wait while a slot is free, a flush is running or due.
Rule 3: a worker has a job, or is idle, or has ended. However it ends, its slot is free again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from contextvars import Context
from time import monotonic
from typing import Any, Generic, TypeVar
from weakref import getweakrefcount

from gevent import Greenlet, get_hub, getcurrent, joinall, killall
from gevent.event import Event

Job = TypeVar("Job", bound=Hashable)

#: The most jobs that run before the event loop gets a turn, so that timers and sockets are served.
JOBS_PER_TURN = 256
#: Seconds after which the event loop gets a turn even if fewer jobs have run.
SECONDS_PER_TURN = 0.01
#: The most idle workers that are kept for the next burst. Further workers end, which frees their stacks.
PARKED_WORKERS_KEPT = 256
#: The most seconds of waiting for killed workers, so that their `finally` blocks can still use their dependencies.
KILL_GRACE = 1.0

#: The value that wakes an idle worker. Any other wake-up is left over from an earlier job.
_GO = object()


class Worker(Greenlet):
    """A greenlet that runs one job after the other, each in a separate empty context."""

    __slots__ = ("pool",)

    def __init__(self, pool: WorkerPool[Any]) -> None:
        super().__init__()
        self.pool = pool

    def _run(self) -> None:
        try:
            self.pool._work(self)
        finally:
            self.pool._worker_left()


def current_job() -> object:
    """The job that the current greenlet runs; None if it is no worker."""
    worker = getcurrent()
    if not isinstance(worker, Worker):
        return None
    # Searched, because storing it would cost time for each job.
    return next((job for job, runs in worker.pool.threads.items() if runs is worker), None)


class WorkerPool(Generic[Job]):
    """Runs `run_job(job, now)` for every put job, at most `size` at a time, in order (but see `newest_first`).

    `run_job` returns whether the worker must not be used again. It should not raise.
    """

    def __init__(self, run_job: Callable[[Job, float], object], size: int) -> None:
        self.size = size
        self.jobs: deque[Job] = deque()
        #: The running jobs, and their workers.
        self.threads: dict[Job, Worker] = {}
        #: The most idle workers that are kept.
        self.kept = 0
        #: Whether the last put job begins first. Set when the first jobs have no time left anyway.
        self.newest_first = False
        self._run_job = run_job
        self._dropped: set[Job] = set()
        self._parked: list[Worker] = []
        self._hub: Any = None
        self._turn_timer: Any = None
        self._flush_is_due = False
        self._must_yield = False
        self._jobs_left = JOBS_PER_TURN
        self._turn_ends = 0.0
        self._slot_waiters: deque[Event] = deque()
        self._idle_waiters: list[Event] = []
        self._promised_slots = 0
        self._is_watched = False

    # --- state -----------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """The number of jobs that have not begun."""
        return len(self.jobs) - len(self._dropped)

    def running(self) -> int:
        """The number of running jobs."""
        return len(self.threads)

    def backlog(self) -> int:
        """The number of jobs that will still wait when every free slot has taken one. Load shedding uses this number.

        `queued` would be too high, because jobs that arrive together are queued together before any of them begins.
        """
        return max(0, self.queued - (self.size - len(self.threads)))

    def free(self) -> int:
        """The number of jobs that could begin at once."""
        return max(0, self.size - len(self.threads) - self.queued - self._promised_slots)

    # --- putting and taking back ----------------------------------------------------------------------------

    def put(self, job: Job, is_flushed: bool = False) -> None:
        """Queue a job. It begins with the next `flush`, which happens at the next turn of the event loop.

        With `is_flushed` there is no such flush: the caller must call `flush` itself.
        """
        self.jobs.append(job)
        if not (is_flushed or self._flush_is_due):
            self._arrange_flush()

    def drop(self, job: Job) -> None:
        """Remove a job that has not begun."""
        self._dropped.add(job)
        if len(self._dropped) * 2 > len(self.jobs):
            kept = [job for job in self.jobs if job not in self._dropped]
            self.jobs.clear()
            self.jobs.extend(kept)
            self._dropped.clear()
        if self._is_watched:
            self._tell_watchers()

    def drop_all(self) -> list[Job]:
        """Remove all jobs that have not begun, and return them."""
        jobs = [job for job in self.jobs if job not in self._dropped]
        self.jobs.clear()
        self._dropped.clear()
        self._tell_watchers()
        return jobs

    def _arrange_flush(self) -> None:
        self._flush_is_due = True
        self._own_hub().loop.run_callback(self._flush_from_loop)

    def _own_hub(self) -> Any:
        if self._hub is None:
            self._hub = get_hub()
        return self._hub

    def _flush_from_loop(self) -> None:
        self._flush_is_due = False
        self.flush()

    def flush(self) -> None:
        """Switch to workers for the waiting jobs.

        Called in the hub's greenlet after a batch. If called elsewhere, it happens at the next turn of the event loop.
        """
        if getcurrent() is not (self._hub or self._own_hub()):
            if not self._flush_is_due:
                self._arrange_flush()
            return
        if self._must_yield:
            return
        if monotonic() >= self._turn_ends:
            self._begin_turn()
        jobs, threads, parked = self.jobs, self.threads, self._parked
        while jobs and len(threads) < self.size and not self._must_yield:
            if parked:
                parked.pop().switch(_GO)
            else:
                Worker(self).switch()

    def _begin_turn(self) -> None:
        self._jobs_left = JOBS_PER_TURN
        self._turn_ends = monotonic() + SECONDS_PER_TURN

    def _yield_to_loop(self) -> None:
        # A timer, because the loop runs callbacks added by callbacks before it looks at timers and sockets.
        self._must_yield = self._flush_is_due = True
        if self._turn_timer is None:
            self._turn_timer = self._hub.loop.timer(0.0)
        self._turn_timer.start(self._loop_had_its_turn)

    def _loop_had_its_turn(self) -> None:
        self._turn_timer.stop()
        self._must_yield = False
        self._begin_turn()
        self._flush_from_loop()

    # --- in the worker's greenlet ---------------------------------------------------------------------------

    def _work(self, worker: Worker) -> None:
        jobs, dropped, parked, threads, run_job = self.jobs, self._dropped, self._parked, self.threads, self._run_job
        worker.gr_context = Context()
        while True:
            while jobs:
                now = monotonic()
                if self._jobs_left <= 0 or now >= self._turn_ends:
                    if not self._must_yield:
                        self._yield_to_loop()
                    break
                job = jobs.pop() if self.newest_first else jobs.popleft()
                if dropped and job in dropped:
                    dropped.discard(job)
                    continue
                self._jobs_left -= 1
                # Written out here, because a method call would cost time for every job.
                threads[job] = worker
                try:
                    if run_job(job, now):
                        return
                finally:
                    del threads[job]
                    if self._is_watched:
                        self._tell_watchers()
                del job
                if worker.__dict__ or worker.spawn_tree_locals or getweakrefcount(worker):
                    # The job left greenlet-locals behind, or is a key of a weak mapping from greenlets to values.
                    return  # They end with the greenlet.
                if worker.gr_context:
                    worker.gr_context = None  # An empty context, which is only made if a job uses it.
            if len(parked) >= self.kept:
                return
            parked.append(worker)
            if not self._park(worker):
                return

    def _park(self, worker: Worker) -> bool:
        switch = self._hub.switch
        try:
            while switch() is not _GO:
                pass
        except BaseException:
            # Killed, or woken by a timeout that an earlier job left running. There is no job to lose.
            if worker in self._parked:
                self._parked.remove(worker)
            return False
        return True

    def _worker_left(self) -> None:
        if self.jobs and not self._flush_is_due:
            self._arrange_flush()

    # --- waiting --------------------------------------------------------------------------------------------

    def claim_slot(self) -> None:
        """Block until another job could begin at once, and reserve its slot. First come, first served.

        Call `put_claimed` or `give_slot_back` right afterwards.
        """
        if self.free() and not self._slot_waiters:
            self._promised_slots += 1
            return
        event = Event()
        self._slot_waiters.append(event)
        self._is_watched = True
        try:
            event.wait()
        except BaseException:
            if event.is_set():
                self.give_slot_back()
            else:
                self._slot_waiters.remove(event)
            raise

    def put_claimed(self, job: Job) -> None:
        """Queue a job in the slot that `claim_slot` reserved."""
        self._promised_slots -= 1
        self.put(job)

    def give_slot_back(self) -> None:
        """Give back the slot that `claim_slot` reserved."""
        self._promised_slots -= 1
        self._tell_watchers()

    def waitall(self, timeout: float | None = None) -> bool:
        """Block until no job waits or runs, at most `timeout` seconds. Returns whether that is so."""
        deadline = None if timeout is None else monotonic() + timeout
        while self.threads or self.queued:
            event = Event()
            self._idle_waiters.append(event)
            self._is_watched = True
            try:
                event.wait(None if deadline is None else max(0.0, deadline - monotonic()))
            finally:
                self._idle_waiters.remove(event)
            if deadline is not None and monotonic() >= deadline:
                break
        return not (self.threads or self.queued)

    def _tell_watchers(self) -> None:
        while self._slot_waiters and self.free():
            self._promised_slots += 1
            self._slot_waiters.popleft().set()
        if not self.threads and not self.queued:
            for event in self._idle_waiters:
                event.set()
        self._is_watched = bool(self._slot_waiters or self._idle_waiters)

    # --- the end --------------------------------------------------------------------------------------------

    def release(self) -> None:
        """End idle workers. Other workers end when they become idle."""
        self.kept = 0
        parked, self._parked[:] = self._parked[:], []
        killall(parked, block=False)

    def kill(self) -> None:
        """Raise GreenletExit in all workers but the current one, and wait shortly for their end."""
        current = getcurrent()
        running = [worker for worker in self.threads.values() if worker is not current]
        killall(running, block=False)
        joinall(running, timeout=KILL_GRACE)
        while self._slot_waiters:
            # `kill` must not wait for workers that ignore GreenletExit.
            self._promised_slots += 1
            self._slot_waiters.popleft().set()
