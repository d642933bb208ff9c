"""Drives sockets from ordinary threads: whoever waits for an answer polls for all.

One thread at a time is inside (the leader); it polls, hands every answer to whoever waits for it, and passes the lead on
when its own answer is there. No thread of its own, nothing to start or stop, and a lone thread pays for no hand-over.
While nobody waits nothing is polled: ZeroMQ's own threads keep the connections and their heartbeats.

It polls the sockets' descriptors (ZMQ_FD), which costs a third of what ZeroMQ's own poll does. A descriptor is readable while
a socket has not noticed what its ZeroMQ thread did; it notices in any operation. So a socket that was sent to, or that was
left before it was empty, is asked for its events before a poll.

A thread that is in here, leading or not, may be interrupted anywhere by a signal handler or a finalizer. Whatever that wants
it cannot have here, since nothing goes on until it returns: it is told so (`Reentered`), and takes another reactor.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import select
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import zmq

from discovery.native import Wakeup
from zmqservices.transport.reactor import Answer, Completion, Drainable, Reentered
from zmqservices.utils.native_threads import NativeLock, allocate_lock, get_ident, poller, reentrant_lock, release

_log = logging.getLogger(__name__)

#: Seconds that a poll lasts at most.
LONGEST_POLL = 1.0

#: Seconds without a poll after which what has happened meanwhile is looked at before anything new is begun.
IDLE = 0.05


_EVENTS = zmq.EVENTS
_POLLIN = int(zmq.POLLIN)


class BlockingWatch:
    """One socket whose descriptor is polled."""

    __slots__ = ("_reactor", "_drain", "_get", "_expect_more", "_is_armed", "is_closed", "descriptor")

    def __init__(self, reactor: BlockingReactor, owner: Drainable) -> None:
        self._reactor = reactor
        self._drain = owner.drain
        self._get = owner.socket.get
        #: Tells the owner that messages have been waiting.
        self._expect_more: Callable[[], None] | None = getattr(owner, "expect_more", None)
        self._is_armed = self.is_closed = False
        self.descriptor: int = owner.socket.get(zmq.FD)

    def arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._reactor.armed.append(self)

    def look(self) -> bool:
        """Whether something had arrived, which is handed over."""
        self._is_armed = False
        if self.is_closed or not self._get(_EVENTS) & _POLLIN:
            return False
        if self._expect_more is not None:
            self._expect_more()
        self.drain()
        return True

    def drain(self) -> None:
        try:
            more = self._drain()
        except Exception:
            _log.exception("a socket's messages could not be handled")
            more = True
        except BaseException:
            self.arm()  # Ctrl-C, most likely: what was not read yet is not lost.
            raise
        if more:
            self.arm()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._reactor.forget(self)


class BlockingTimer:
    """An entry of the reactor's timers; the leader fires it."""

    __slots__ = ("due", "callback", "args")

    def __init__(self, due: float, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.due = due
        self.callback: Callable[..., Any] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None


class Job(Completion):
    """Something that a thread wants done inside while another thread leads."""

    __slots__ = ("_action", "_args", "_answer", "_error")

    def __init__(self, action: Callable[..., Any], args: tuple[Any, ...]) -> None:
        super().__init__()
        self._action, self._args = action, args
        self._answer: Any = None
        self._error: BaseException | None = None

    def do(self) -> None:
        try:
            self._answer = self._action(*self._args)
        except BaseException as exc:
            self._error = exc
        self.stage = 1

    def answer(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._answer


class WaitingThreads:
    """The locks of several threads that wait for one completion; released together, as the lock of one thread is."""

    __slots__ = ("locks",)

    def __init__(self, first: NativeLock) -> None:
        self.locks = [first]

    def release(self) -> None:
        for lock in list(self.locks):
            release(lock)


class BlockingReactor:
    """The reactor of plain threads; see the module."""

    must_be_entered = True
    looks_before_it_waits = True
    #: Threads do not tell whether they are about to call.
    defer: Callable[[Callable[[], None]], Any] | None = None

    def __init__(self) -> None:
        #: Held by the leader, and tells whether the current thread is that; taken without waiting, and once only.
        self._lead = reentrant_lock()
        #: The threads that wait for the leader.
        self._following: set[int] = set()
        #: Held while a thread enters itself as the waiter of a completion, or leaves: another thread may do the same.
        self._entering = allocate_lock()
        self._jobs: deque[Job] = deque()
        self._posted: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._followers: deque[Any] = deque()
        self._watches: dict[int, BlockingWatch] = {}
        #: Sockets to be looked at before the next poll.
        self.armed: list[BlockingWatch] = []
        self._timers: list[tuple[float, int, BlockingTimer]] = []
        self._ticks = itertools.count()
        self._polled_at = monotonic()
        self._bell = Wakeup()
        self._poller = poller()
        self._poller.register(self._bell.fd, select.POLLIN)
        self._closed = False

    # --- called inside -------------------------------------------------------------------------------------------

    def watch(self, owner: Drainable) -> BlockingWatch:
        watch = BlockingWatch(self, owner)
        self._watches[watch.descriptor] = watch
        self._poller.register(watch.descriptor, select.POLLIN)
        watch.arm()
        return watch

    def forget(self, watch: BlockingWatch) -> None:
        if self._watches.pop(watch.descriptor, None) is not None:
            self._poller.unregister(watch.descriptor)

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: object) -> BlockingTimer:
        timer = BlockingTimer(monotonic() + seconds, callback, args)
        heapq.heappush(self._timers, (timer.due, next(self._ticks), timer))
        return timer

    def wake(self, completions: Iterable[Completion]) -> None:
        for completion in completions:
            waiter = completion.waiter
            if waiter is not None and completion.stage >= completion.awaited:
                release(waiter)

    # --- called by anybody ---------------------------------------------------------------------------------------

    def post(self, callback: Callable[..., Any], *args: object) -> None:
        self._posted.append((callback, args))
        self._bell.wake()

    def run(self, action: Callable[..., Answer], *args: object) -> Answer:
        lead = self._lead
        if lead._is_owned() or (self._following and get_ident() in self._following):
            raise Reentered(
                "this thread was interrupted by a signal handler, or by a finalizer, while it was making a call of the same "
                "client, and nothing can be done with that client before it returns; use a client of its own there"
            )
        # An interruption (Ctrl-C) may come between any two steps; the lock itself knows whether it was taken before that.
        leads = False
        try:
            leads = lead.acquire(False)
            if leads:
                if monotonic() - self._polled_at > IDLE:
                    self._catch_up()
                self._settle()
                return action(*args)
        finally:
            if leads or lead._is_owned():
                try:
                    lead.release()
                finally:
                    if self._followers:
                        self._call_a_follower()
        job = Job(action, args)
        self._jobs.append(job)
        self._bell.wake()
        self._wait(job, 1)
        answer: Answer = job.answer()
        return answer

    tell = run

    def park(self, completion: Completion, stage: int) -> None:
        if self._lead._is_owned() or (self._following and get_ident() in self._following):
            raise Reentered(
                "this call was made by the thread that a signal handler, or a finalizer, has interrupted here: its answer "
                "cannot be waited for before that returns"
            )
        self._wait(completion, stage)

    def _wait(self, completion: Completion, stage: int) -> None:
        lead = self._lead
        while completion.stage < stage:
            leads = False
            try:
                leads = lead.acquire(False)
                if leads:
                    if monotonic() - self._polled_at > IDLE:
                        self._catch_up()
                    while completion.stage < stage:
                        self._settle()
                        if completion.stage < stage:
                            self._poll()
                    continue
            finally:
                if leads or lead._is_owned():
                    try:
                        lead.release()
                    finally:
                        if self._followers:
                            self._call_a_follower()
            self._follow(completion, stage)

    def _follow(self, completion: Completion, stage: int) -> None:
        me = get_ident()
        lock = allocate_lock()
        lock.acquire()
        try:
            self._following.add(me)
            with self._entering:
                _enter_waiter(completion, stage, lock)
            self._followers.append(lock)
            # Look again now that others can see us: the leader may have left, or served us, in between.
            if completion.stage < stage and not self._pass_a_free_lead():
                lock.acquire()
        finally:
            with self._entering:
                _remove_waiter(completion, lock)
            try:
                self._followers.remove(lock)
            except ValueError:
                # We were chosen to lead. If our own answer came at the same moment, somebody else has to.
                if completion.stage >= stage:
                    self._pass_a_free_lead()
            self._following.discard(me)

    def _pass_a_free_lead(self) -> bool:
        """Whether nobody leads; then one of those who wait, if any, is let go to do so."""
        lead = self._lead
        is_free = False
        try:
            is_free = lead.acquire(False)
        finally:
            if is_free or lead._is_owned():
                try:
                    lead.release()
                finally:
                    self._call_a_follower()
        return is_free

    def _call_a_follower(self) -> None:
        if not self._followers:
            return
        try:
            lock = self._followers.popleft()
        except IndexError:
            return  # Another one was quicker.
        release(lock)

    # --- the leader's work -----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """What does not need a socket to speak: jobs, posts, timers that are due."""
        if self._jobs or self._posted:
            self._run_jobs()
        timers = self._timers
        if timers and timers[0][0] <= monotonic():
            if self.armed:
                self._look()  # An answer that is there already is not late.
            now = monotonic()
            while timers and timers[0][0] <= now:
                timer = heapq.heappop(timers)[2]
                if timer.callback is not None:
                    self._call(timer.callback, timer.args)

    def _run_jobs(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            job.do()
            self.wake((job,))
        while self._posted:
            callback, args = self._posted.popleft()
            self._call(callback, args)

    @staticmethod
    def _call(callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            callback(*args)
        except Exception:
            _log.exception("%r failed in the reactor", callback)

    def _catch_up(self) -> None:
        """Hear what came while nobody polled: answers before timers judge them late, links that were lost and made again."""
        for _ in range(100):  # Bounded: a peer that never stops talking must not keep a call from being made.
            if not self._poll(0.0):
                return
            self._run_jobs()

    def _poll(self, longest: float = LONGEST_POLL) -> bool:
        if self._closed:
            raise RuntimeError("the client was stopped while a call was waiting for its answer")
        timeout = longest
        if self.armed and self._look():
            timeout = 0.0  # There is something to do already; the others shall be heard all the same.
        elif self._timers and longest:
            timeout = min(timeout, max(self._timers[0][0] - monotonic(), 0.0))
        # Rounded up, so that a timer is due when the poll ends and the leader does not spin towards it.
        ready = self._poller.poll(int(timeout * 1000) + 1 if timeout else 0)
        self._polled_at = monotonic()
        for descriptor, _ in ready:
            watch = self._watches.get(descriptor)
            if watch is not None:
                watch.drain()
            elif descriptor == self._bell.fd:
                self._bell.clear()
        return bool(ready or self.armed)

    def _look(self) -> bool:
        armed, self.armed = self.armed, []
        found = False
        try:
            while armed:
                watch = armed.pop()
                try:
                    found = watch.look() or found
                except BaseException:
                    watch.arm()
                    raise
        finally:
            self.armed.extend(armed)  # Those that Ctrl-C came before.
        return found

    def close(self) -> None:
        self._closed = True
        self._bell.close()
        self._watches.clear()
        self._timers.clear()


def _enter_waiter(completion: Completion, stage: int, lock: NativeLock) -> None:
    if completion.waiter is None:
        completion.awaited = stage
        completion.waiter = lock
        return
    completion.awaited = min(stage, completion.awaited)
    if not isinstance(completion.waiter, WaitingThreads):
        completion.waiter = WaitingThreads(completion.waiter)
    completion.waiter.locks.append(lock)


def _remove_waiter(completion: Completion, lock: NativeLock) -> None:
    waiter = completion.waiter
    if waiter is lock:
        completion.waiter = None
    elif isinstance(waiter, WaitingThreads) and lock in waiter.locks:
        waiter.locks.remove(lock)
        if not waiter.locks:
            completion.waiter = None
