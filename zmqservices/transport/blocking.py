"""Drives sockets from ordinary threads: one of the threads that wait for answers polls for all of them (leader and followers).

Only one thread at a time is inside, the leader. It polls, hands each answer to the thread that waits for it, and passes the lead
on when it has its own answer. So the reactor needs no thread, which would have to be started and stopped, and a single calling
thread needs no hand-over. While no thread waits, nothing is polled: ZeroMQ's own threads keep the connections and heartbeats.

The leader polls the sockets' descriptors (ZMQ_FD), which takes a third of the time of ZeroMQ's own poll. A descriptor is readable
until the socket has processed the commands of its ZeroMQ thread, and every operation on the socket processes them. So a socket is
asked for its events before a poll if it was sent to, or was left before it was empty.

A signal handler or a finalizer may interrupt a thread anywhere in here. It cannot use this reactor, because the interrupted
thread does not go on before it returns. It gets `Reentered`, and must use another reactor.
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
from zmqservices.transport.waiting_threads import join, part
from zmqservices.utils.native_threads import allocate_lock, get_ident, poller, reentrant_lock, release

_log = logging.getLogger(__name__)

#: The longest poll, in seconds.
LONGEST_POLL = 1.0

#: Seconds without a poll after which a thread first handles all that has arrived meanwhile, before it begins anything new.
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
        #: Tells the owner that several messages may wait.
        self._expect_more: Callable[[], None] | None = getattr(owner, "expect_more", None)
        self._is_armed = self.is_closed = False
        self.descriptor: int = owner.socket.get(zmq.FD)

    def arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._reactor.armed.append(self)

    def look(self) -> bool:
        """Hand over messages that have arrived. Returns whether there were any."""
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
            self.arm()  # Probably Ctrl-C. Read the rest later.
            raise
        if more:
            self.arm()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._reactor.forget(self)


class BlockingTimer:
    """A timer of the reactor, which the leader fires."""

    __slots__ = ("due", "callback", "args")

    def __init__(self, due: float, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.due = due
        self.callback: Callable[..., Any] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None


class Job(Completion):
    """An action that a thread hands to the leader, to be run inside the reactor."""

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


class BlockingReactor:
    """The reactor of threads without a hub; see the module."""

    must_be_entered = True
    looks_before_it_waits = True
    #: Not possible: nobody knows whether a thread is about to make a call.
    defer: Callable[[Callable[[], None]], Any] | None = None

    def __init__(self) -> None:
        #: Held by the leader. Also tells whether the current thread is the leader. Taken without waiting, and once only.
        self._lead = reentrant_lock()
        #: The ids of the threads that wait for the leader.
        self._following: set[int] = set()
        #: Held while a thread adds itself to the waiters of a completion, or removes itself, as several threads may do so.
        self._entering = allocate_lock()
        self._jobs: deque[Job] = deque()
        self._posted: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._followers: deque[Any] = deque()
        self._watches: dict[int, BlockingWatch] = {}
        #: The sockets to ask for their events before the next poll.
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

    # --- called from any thread ---------------------------------------------------------------------------------------

    def post(self, callback: Callable[..., Any], *args: object) -> None:
        self._posted.append((callback, args))
        self._bell.wake()

    def run(self, action: Callable[..., Answer], *args: object) -> Answer:
        lead = self._lead
        if lead._is_owned() or (self._following and get_ident() in self._following):
            raise Reentered(
                "this thread was interrupted by a signal handler, or by a finalizer, while it was making a call of the same "
                "client, and nothing can be done with that client before it returns; use a separate client there"
            )
        # Ctrl-C may come between any two steps. Then the lock itself tells whether it was taken.
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
                "a signal handler, or a finalizer, has interrupted the thread that made this call: its answer "
                "cannot be waited for before the handler returns"
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
                join(completion, stage, lock)
            self._followers.append(lock)
            # Check again now that other threads see this one: meanwhile the leader may have left, or brought the answer.
            if completion.stage < stage and not self._pass_a_free_lead():
                lock.acquire()
        finally:
            with self._entering:
                part(completion, lock)
            try:
                self._followers.remove(lock)
            except ValueError:
                # This thread was chosen to lead. If its own answer came at the same moment, another thread must lead.
                if completion.stage >= stage:
                    self._pass_a_free_lead()
            self._following.discard(me)

    def _pass_a_free_lead(self) -> bool:
        """If no thread leads, wake one of the followers to lead. Returns whether no thread led."""
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
            return  # Another thread took the last follower.
        release(lock)

    # --- the leader's work -----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Run the jobs, the posted callbacks, and the timers that are due."""
        if self._jobs or self._posted:
            self._run_jobs()
        timers = self._timers
        if timers and timers[0][0] <= monotonic():
            if self.armed:
                self._look()  # An answer that has already arrived is not late.
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
        """Handle all that came while no thread polled: answers (before timers find them late), lost and restored links."""
        for _ in range(100):  # Bounded, so that a peer that never stops sending cannot keep a call from being made.
            if not self._poll(0.0):
                return
            self._run_jobs()

    def _poll(self, longest: float = LONGEST_POLL) -> bool:
        if self._closed:
            raise RuntimeError("the client was stopped while a call was waiting for its answer")
        timeout = longest
        if self.armed and self._look():
            timeout = 0.0  # There is work already. Poll the other sockets without waiting.
        elif self._timers and longest:
            timeout = min(timeout, max(self._timers[0][0] - monotonic(), 0.0))
        # Rounded up, so that the timer is due when the poll ends. Otherwise the leader would poll without waiting until then.
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
            self.armed.extend(armed)  # The sockets that were not asked because of Ctrl-C.
        return found

    def close(self) -> None:
        self._closed = True
        self._bell.close()
        self._watches.clear()
        self._timers.clear()
