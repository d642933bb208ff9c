"""The pool of greenlets that run a container's jobs: collect first, then run.

Jobs are collected in a queue. `flush`, called from the hub's greenlet, enters parked workers; a worker takes
the next job before it parks, so a batch of jobs that do not block costs two switches in all. When a job
blocks, control comes back to `flush`, which enters another worker as long as jobs wait and fewer than `size`
run.

Rule 1: everything here happens on one hub's thread.
Rule 2: jobs wait while a slot is free only if a flush is under way or due.
Rule 3: a worker holds a job or is parked or is gone; whatever kills it, its slot is free again.
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

#: Jobs run back to back before the hub's loop gets a turn, so that timers and sockets live.
JOBS_PER_TURN = 256
#: Seconds after which the loop gets a turn even if fewer jobs have run.
SECONDS_PER_TURN = 0.01
#: Idle workers kept for the next burst. A worker beyond that ends, which gives its stack back.
PARKED_WORKERS_KEPT = 256
#: Seconds that killed workers are waited for, so that their `finally` blocks find their dependencies alive.
KILL_GRACE = 1.0

#: The value that wakes an idle worker; any other wake-up is left over from a job that it ran before.
_GO = object()


class Worker(Greenlet):
    """A greenlet that runs one job after the other, each in an empty context of its own."""

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
    """The job that the current greenlet runs; None in any other greenlet than a worker's."""
    worker = getcurrent()
    if not isinstance(worker, Worker):
        return None
    # Looked for, since a note of it would cost something for each job.
    return next((job for job, runs in worker.pool.threads.items() if runs is worker), None)


class WorkerPool(Generic[Job]):
    """Runs `run_job(job, now)` for every job that is put, at most `size` at a time, in their order (but see `newest_first`).

    `run_job` answers whether the worker is spent and must not be used again; it should not raise.
    """

    def __init__(self, run_job: Callable[[Job, float], object], size: int) -> None:
        self.size = size
        self.jobs: deque[Job] = deque()
        #: The jobs that run, and the workers that run them.
        self.threads: dict[Job, Worker] = {}
        #: How many idle workers may stay parked.
        self.kept = 0
        #: Whether the job that was put last begins first: set where those that came first have no time left anyway.
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
        """Jobs put and not yet begun."""
        return len(self.jobs) - len(self._dropped)

    def running(self) -> int:
        """Jobs that are being run."""
        return len(self.threads)

    def backlog(self) -> int:
        """Jobs that will still wait when every free slot has taken one; load shedding goes by this number.

        Jobs that arrive together are queued together before any of them begins, so `queued` alone says too much.
        """
        return max(0, self.queued - (self.size - len(self.threads)))

    def free(self) -> int:
        """Jobs that could begin at once."""
        return max(0, self.size - len(self.threads) - self.queued - self._promised_slots)

    # --- putting and taking back ----------------------------------------------------------------------------

    def put(self, job: Job, is_flushed: bool = False) -> None:
        """Queue a job. It begins with the next `flush`; one comes by itself at the loop's next turn.

        Not with `is_flushed`: whoever puts it calls `flush` before that.
        """
        self.jobs.append(job)
        if not (is_flushed or self._flush_is_due):
            self._arrange_flush()

    def drop(self, job: Job) -> None:
        """Take back a job that has not begun."""
        self._dropped.add(job)
        if len(self._dropped) * 2 > len(self.jobs):
            kept = [job for job in self.jobs if job not in self._dropped]
            self.jobs.clear()
            self.jobs.extend(kept)
            self._dropped.clear()
        if self._is_watched:
            self._tell_watchers()

    def drop_all(self) -> list[Job]:
        """Take back every job that has not begun, and return them."""
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
        """Enter workers for the jobs that wait.

        Called from the hub's greenlet after a batch; called from elsewhere, it happens at the next turn.
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
        # A timer: callbacks that callbacks have added are run before the loop looks at timers and sockets.
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
                # In this loop and not in a method of its own, as it is for every job.
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
                    # The job left greenlet-locals behind, or a weak mapping from greenlets to their values exists.
                    return  # They go with the greenlet.
                if worker.gr_context:
                    worker.gr_context = Context()
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
            # Killed, or hit by a timeout that a former job left ticking; there is no job to lose.
            if worker in self._parked:
                self._parked.remove(worker)
            return False
        return True

    def _worker_left(self) -> None:
        if self.jobs and not self._flush_is_due:
            self._arrange_flush()

    # --- waiting --------------------------------------------------------------------------------------------

    def claim_slot(self) -> None:
        """Block until one more job could begin at once, and reserve its slot. First come, first served.

        To be followed at once by `put_claimed`, or by `give_slot_back`.
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
        """Block until no job waits or runs, at most `timeout` seconds; answers whether that is so."""
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
        """End the idle workers; the others end when they become idle."""
        self.kept = 0
        parked, self._parked[:] = self._parked[:], []
        killall(parked, block=False)

    def kill(self) -> None:
        """Throw GreenletExit into all workers but the current one, and wait a moment for their end."""
        current = getcurrent()
        running = [worker for worker in self.threads.values() if worker is not current]
        killall(running, block=False)
        joinall(running, timeout=KILL_GRACE)
        while self._slot_waiters:
            # `kill` must not wait for workers that ignore GreenletExit.
            self._promised_slots += 1
            self._slot_waiters.popleft().set()
