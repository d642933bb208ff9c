"""Drives sockets on a gevent hub.

A watcher on ZMQ_FD, which is edge-triggered: it fires when the socket's mailbox goes from empty to not empty. So a drain
goes on until the socket is empty or the quota is spent, and every send outside a drain is followed by a look at
ZMQ_EVENTS (a send handles the mailbox and eats the edge). A slow timer looks at every socket besides, as a net.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from greenlet import getcurrent

from zmqservices.transport.native import allocate_lock
from zmqservices.transport.reactor import Answer, Drainable, Ticket

_log = logging.getLogger(__name__)

#: Seconds between two looks at every socket. Nothing is known to need it; a stall would end here.
SAFETY_INTERVAL = 1.0

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
        #: Nothing may be done with the socket any more: it is closed, or this is a fork and it is its parent's.
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
    """A raw timer of the loop, closed once it has fired."""

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


class Crowd:
    """Several greenlets that wait for one ticket, in the place of the one that mostly does."""

    __slots__ = ("greenlets",)

    def __init__(self, first: Any) -> None:
        self.greenlets = [first]

    @classmethod
    def join(cls, ticket: Ticket, greenlet: Any) -> None:
        if not isinstance(ticket.waiter, Crowd):
            ticket.waiter = cls(ticket.waiter)
        ticket.waiter.greenlets.append(greenlet)

    def switch(self) -> None:
        """Enter all who are waiting now."""
        for greenlet in tuple(self.greenlets):
            if greenlet in self.greenlets:
                greenlet.switch()


class HubReactor:
    """The reactor of a thread that runs a gevent hub. Made and used in that thread; `post` alone may be called elsewhere."""

    must_be_entered = False
    #: It does, but to do so costs a turn of the loop.
    looks_before_it_waits = False

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
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

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> HubTimer:
        return HubTimer(self.hub.loop, seconds, callback, args)

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        self._posted.append((callback, args))
        # Under a lock: the bell must not be rung from another thread while it is being taken down.
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

    def run(self, action: Callable[..., Answer], *args: Any) -> Answer:
        return action(*args)

    def park(self, ticket: Ticket, stage: int) -> None:
        if ticket.stage >= stage:
            return
        me = getcurrent()
        if ticket.waiter is None:
            ticket.awaited = stage
            ticket.waiter = me
        else:
            ticket.awaited = min(stage, ticket.awaited)
            Crowd.join(ticket, me)
        switch = self.hub.switch
        try:
            while ticket.stage < stage:
                switch()
        finally:
            if ticket.waiter is me:
                ticket.waiter = None
            else:
                ticket.waiter.greenlets.remove(me)

    def check_thread(self) -> None:
        if get_hub_if_exists() is not self.hub:
            raise RuntimeError("this call was made on the gevent hub of another thread; wait for its result there")

    def wake(self, tickets: Iterable[Ticket]) -> None:
        # Whoever waits is entered at once when the hub itself is running, else at the loop's next turn: a greenlet
        # must not be left in the middle of what it does.
        is_hub = getcurrent() is self.hub
        for ticket in tickets:
            waiter = ticket.waiter
            if waiter is not None and ticket.stage >= ticket.awaited:
                if is_hub:
                    waiter.switch()
                else:
                    self.hub.loop.run_callback(self._enter, ticket)

    @staticmethod
    def _enter(ticket: Ticket) -> None:
        if ticket.waiter is not None:
            ticket.waiter.switch()

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
        for watch in tuple(self._watches):
            watch.close()

    def abandon(self) -> None:
        """In a fork: let the sockets be, which are the parent's. To look at one there never comes to an end."""
        self._closed = True
        for watch in self._watches:
            watch.abandon()


#: All reactors of this process.
_reactors: weakref.WeakSet[HubReactor] = weakref.WeakSet()


def _abandon_all() -> None:
    for reactor in list(_reactors):
        reactor.abandon()


os.register_at_fork(after_in_child=_abandon_all)
