"""A clock that a test winds forward by hand.

    clock = Clock()
    with clock.winds(container):
        call = proxy.slow.call_async()        # rpc_timeout: 30
        clock.wind(31)                        # the service cancels the call now

The clock runs as `time.monotonic` does, and `wind` puts it forward. It works for code that is handed a clock (a function that
returns seconds, with a `sleep`), and in the containers given to `winds` for the deadlines of calls, for timers, and for every
extension that is `Wound`. It has no effect on gevent's timers, on a caller's own timeout, and on heartbeats and leases, which
live in sockets and other threads; use `zmqservices.testing.network` for those.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import gevent
from gevent.event import Event

if TYPE_CHECKING:
    from zmqservices.containers import ServiceContainer

__all__ = ["Clock"]


@runtime_checkable
class Wound(Protocol):
    """A part that asks a clock for the time, and that can be told to ask again."""

    #: Returns the time; `time.monotonic` unless a test replaces it.
    clock: Callable[[], float]

    def look(self) -> None:
        """Called after the clock was wound: something may be due now. Must not block."""


class Clock:
    """A clock that a test winds. Call it for the time in seconds: `time.monotonic()` plus all that it was wound."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._sleepers: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        self._wound: list[Wound] = []

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def wind(self, seconds: float) -> None:
        """Put the clock forward. When this returns, all sleepers that became due have been woken in order and have run."""
        if seconds < 0:
            raise ValueError(f"the clock cannot be wound back, by {seconds!r} s")
        due = self() + seconds
        while self._sleepers and self._sleepers[0][0] <= due:
            wakes_at, _, event = heapq.heappop(self._sleepers)
            self._ahead = max(self._ahead, wakes_at - time.monotonic())
            event.set()
            # Let the sleeper run, because it may sleep again and be due again before the clock has reached its new time.
            gevent.sleep(0)
        self._ahead = max(self._ahead, due - time.monotonic())
        for each in self._wound:
            each.look()
        gevent.sleep(0)

    def sleep(self, seconds: float) -> None:
        """Block until the clock has advanced by `seconds`, as time passes or because a test winds it."""
        wakes_at = self() + seconds
        event = Event()
        entry = (wakes_at, next(self._numbers), event)
        heapq.heappush(self._sleepers, entry)
        try:
            event.wait(max(0.0, seconds))
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)

    @contextmanager
    def winds(self, *containers: ServiceContainer) -> Iterator[Clock]:
        """Within the block, the deadlines and extensions of these containers use this clock."""
        found = [each for container in containers for each in (container._deadlines, *container.extensions)]
        wound = [(each, each.clock) for each in found if isinstance(each, Wound)]
        for each, _ in wound:
            each.clock = self
            self._wound.append(each)
        try:
            yield self
        finally:
            for each, before in wound:
                each.clock = before
                self._wound.remove(each)
