"""Drives sockets on a gevent hub.

A watcher waits for ZMQ_FD, which is edge-triggered: it fires when the socket's mailbox stops being empty. So a drain goes on
until the socket is empty or the quota is spent. And every send outside a drain is followed by a check of ZMQ_EVENTS, because a
send empties the mailbox and so hides the edge. As a safety net, a slow timer checks every socket.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any

import gevent
import zmq
from greenlet import getcurrent

from zmqservices.exceptions import RpcTimeout
from zmqservices.transport.handover import TAKE_UP_TIMEOUT, Handover
from zmqservices.transport.reactor import Answer, Completion, Drainable
from zmqservices.transport.sockets import forked_error
from zmqservices.transport.waiting_greenlets import Outsider, WaitingGreenlets
from zmqservices.utils.forks import ForkHook
from zmqservices.utils.native_threads import allocate_lock, get_ident

_log = logging.getLogger(__name__)

#: Seconds between two checks of every socket. No case is known that needs them, but a stall would end with the next check.
SAFETY_INTERVAL = 1.0

#: Seconds after the deadline of a call at which a waiting thread takes the hub for blocked and stops waiting.
OVERDUE = 2.0

_EVENTS = zmq.EVENTS
_POLLIN = int(zmq.POLLIN)


class HubWatch:
    """One socket on the hub's loop."""

    __slots__ = ("_drain", "_get", "_io", "_run_callback", "_armed", "is_closed", "_reactor")

    def __init__(self, reactor: HubReactor, owner: Drainable) -> None:
        self._reactor = reactor
        self._drain = owner.drain
        self._get = owner.socket.get
        self._run_callback = reactor.hub.loop.run_callback
        self._armed = False
        #: Whether the socket must not be used any more: it is closed, or it belongs to the parent of this fork.
        self.is_closed = False
        self._io = reactor.hub.loop.io(owner.socket.get(zmq.FD), 1)
        self._io.start(self._ready)
        self.arm()

    def arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._run_callback(self._look)

    def _look(self) -> None:
        self._armed = False
        if not self.is_closed and self._get(_EVENTS) & _POLLIN:
            self._ready()

    def _ready(self) -> None:
        if self.is_closed:
            return
        try:
            more = self._drain()
        except Exception:
            _log.exception("a socket's messages could not be handled")
            more = True
        if more:
            self.arm()

    def abandon(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._io.stop()
            self._io.close()
            self._reactor.forget(self)


class HubTimer:
    """A timer of the event loop that is closed once it has fired."""

    __slots__ = ("_timer",)

    def __init__(self, loop: Any, seconds: float, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._timer = loop.timer(max(seconds, 0.0))
        self._timer.start(self._fire, callback, args)

    def _fire(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.cancel()
        callback(*args)

    def cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.close()


class HubReactor:
    """The reactor of a thread with a gevent hub. It must be made in that thread, and code on that thread is inside.

    Other threads may call `post`, `run`, `run_greenlet`, `tell` and `park`, which hand their work to the hub.
    """

    must_be_entered = False
    #: Asking first would cost a turn of the event loop.
    looks_before_it_waits = False

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
        #: The thread whose hub this is.
        self.thread = get_ident()
        self._pid = os.getpid()
        self._handovers: set[Handover] = set()
        self._outsiders: set[Outsider] = set()
        self.defer = self.hub.loop.run_callback
        self._watches: set[HubWatch] = set()
        self._posted: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._bell_lock = allocate_lock()
        self._bell = self.hub.loop.async_()
        self._bell.start(self._run_posted)
        self._safety = self.hub.loop.timer(SAFETY_INTERVAL, SAFETY_INTERVAL, ref=False)
        self._safety.start(self._look_at_all)
        self._closed = False
        _reactors.add(self)

    def watch(self, owner: Drainable) -> HubWatch:
        watch = HubWatch(self, owner)
        self._watches.add(watch)
        return watch

    def forget(self, watch: HubWatch) -> None:
        self._watches.discard(watch)

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: object) -> HubTimer:
        return HubTimer(self.hub.loop, seconds, callback, args)

    def post(self, callback: Callable[..., Any], *args: object) -> None:
        self._posted.append((callback, args))
        # Under a lock, because another thread must not ring the bell while it is being closed.
        with self._bell_lock:
            if not self._closed:
                self._bell.send()

    def _run_posted(self) -> None:
        while self._posted:
            callback, args = self._posted.popleft()
            try:
                callback(*args)
            except Exception:
                _log.exception("%r failed on the hub", callback)

    def run(self, action: Callable[..., Answer], *args: object) -> Answer:
        if get_ident() == self.thread:
            return action(*args)
        return self.hand_over(action, args)

    def tell(self, action: Callable[..., Any], *args: object) -> None:
        if get_ident() == self.thread:
            action(*args)
        else:
            self.post(action, *args)

    def run_greenlet(self, action: Callable[..., Answer], *args: object) -> Answer:
        """Run `action`, which may block, in a greenlet of the hub, and return its result. For other threads.

        It runs in a copy of the calling thread's context (`contextvars`).
        """
        return self.hand_over(partial(copy_context().run, action), args, by=gevent.spawn)

    def hand_over(
        self,
        action: Callable[..., Answer],
        args: tuple[Any, ...],
        timeout: float = TAKE_UP_TIMEOUT,
        by: Callable[[Callable[[], None]], Any] | None = None,
    ) -> Answer:
        """Let the hub run `action`, and return its result or raise its error.

        Raises RuntimeError, without having begun, if the hub is stopped or has been blocked for `timeout` seconds.
        """
        job = Handover(action, args)
        with self._bell_lock:
            if self._closed:
                raise self._refusal()
            self._handovers.add(job)
        try:
            if by is None:
                self.post(job.do)
            else:
                self.post(by, job.do)
            answer: Answer = job.wait(timeout)
            return answer
        finally:
            self._handovers.discard(job)

    def park(self, completion: Completion, stage: int) -> None:
        if completion.stage >= stage:
            return
        if get_ident() != self.thread:
            self._park_outside(completion, stage)
            return
        me = getcurrent()
        if me is self.hub:
            raise RuntimeError(
                "a call cannot be waited for on the gevent hub itself, as in a signal handler or a callback of the loop; "
                "use gevent.signal_handler, or gevent.spawn"
            )
        if completion.waiter is None:
            completion.awaited = stage
            completion.waiter = me
        else:
            completion.awaited = min(stage, completion.awaited)
            WaitingGreenlets.join(completion, me)
        switch = self.hub.switch
        try:
            while completion.stage < stage:
                switch()
        finally:
            if completion.waiter is me:
                completion.waiter = None
            else:
                completion.waiter.greenlets.remove(me)

    def _park_outside(self, completion: Completion, stage: int) -> None:
        deadline: float | None = getattr(completion, "deadline", None)
        outsider = Outsider(completion, stage)
        with self._bell_lock:
            if self._closed and completion.stage < stage:
                raise self._refusal()
            self._outsiders.add(outsider)
        try:
            self.post(outsider.join)
            if not outsider.wait(None if deadline is None else deadline - monotonic() + OVERDUE):
                raise RpcTimeout(
                    f"no answer in time, and the gevent hub of this service was blocked for {OVERDUE:g} s beyond that; code on "
                    "that hub that waits for a thread must do so with gevent (gevent.get_hub().threadpool)"
                )
            if completion.stage < stage:
                raise self._refusal()
        except BaseException:
            self.post(outsider.part)
            raise
        finally:
            self._outsiders.discard(outsider)

    def _refusal(self) -> Exception:
        if os.getpid() != self._pid:
            return forked_error(self._pid)
        return RuntimeError("the service or client that this call belongs to was stopped")

    def wake(self, completions: Iterable[Completion]) -> None:
        # Switch to the waiters at once if the hub itself runs. If a greenlet runs, it must not be left in the middle of its work:
        # switch at the loop's next turn.
        is_hub = getcurrent() is self.hub
        for completion in completions:
            waiter = completion.waiter
            if waiter is not None and completion.stage >= completion.awaited:
                if is_hub:
                    waiter.switch()
                else:
                    self.hub.loop.run_callback(self._enter, completion)

    @staticmethod
    def _enter(completion: Completion) -> None:
        if completion.waiter is not None:
            completion.waiter.switch()

    def _look_at_all(self) -> None:
        for watch in tuple(self._watches):
            watch.arm()

    def close(self) -> None:
        with self._bell_lock:
            if self._closed:
                return
            self._closed = True
            for watcher in (self._bell, self._safety):
                watcher.stop()
                watcher.close()
            for job in tuple(self._handovers):
                job.refuse(self._refusal())
            for outsider in tuple(self._outsiders):
                outsider.let_go()
        for watch in tuple(self._watches):
            watch.close()

    def abandon(self) -> None:
        """Called in a forked child: never touch the sockets, which belong to the parent.

        Asking for their events would never return.
        """
        self._closed = True
        self._bell_lock = allocate_lock()  # A thread of the parent may have held the former lock.
        for watch in self._watches:
            watch.abandon()


#: All reactors of this process.
_reactors = ForkHook(HubReactor.abandon)
