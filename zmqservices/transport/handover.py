"""Hands an action from one thread to the gevent hub of another thread, and waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent.event
from gevent._hub_local import get_hub_if_exists

from zmqservices.utils.native_threads import allocate_lock, release

#: Seconds within which a hub must begin the action of another thread, if nothing else bounds the wait.
TAKE_UP_TIMEOUT = 30.0


class Bell:
    """An event that any thread may set. Only the thread that made it may wait for it; if it has a hub, other greenlets go on."""

    __slots__ = ("_hub", "_rung", "_lock")

    def __init__(self) -> None:
        self._hub: Any = get_hub_if_exists()
        if self._hub is None:
            self._lock = allocate_lock()
            self._lock.acquire()
        else:
            self._rung = gevent.event.Event()

    def ring(self) -> None:
        """Set the event. A second call has no effect."""
        if self._hub is None:
            release(self._lock)
        elif self._hub.loop is not None:  # Nothing waits on a hub that has ended.
            self._hub.loop.run_callback_threadsafe(self._rung.set)

    def wait(self, timeout: float | None) -> bool:
        """Wait for the event. Returns False after `timeout` seconds. After it has returned True, it must not be called again."""
        if self._hub is not None:
            return bool(self._rung.wait(timeout))
        return bool(self._lock.acquire(True, -1 if timeout is None else max(0.0, timeout)))


class Handover:
    """One action for the hub. Either the hub runs it, or the waiting thread gives it up before the hub has begun."""

    __slots__ = ("_action", "_args", "_bell", "_claim", "_answer", "_error")

    def __init__(self, action: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._action, self._args = action, args
        self._bell = Bell()
        #: Taken by the hub when it begins, or by the thread when it gives up, whichever is first.
        self._claim = allocate_lock()
        self._answer: Any = None
        self._error: BaseException | None = None

    def do(self) -> None:
        """Called on the hub: run the action, unless it was given up."""
        if not self._claim.acquire(False):
            return
        try:
            self._answer = self._action(*self._args)
        except BaseException as exc:
            self._error = exc
        self._bell.ring()

    def refuse(self, error: BaseException) -> None:
        """Called on the hub instead of `do`: the action will not be run, and the thread gets `error`."""
        if self._claim.acquire(False):
            self._error = error
            self._bell.ring()

    def wait(self, timeout: float) -> Any:
        """Return the action's result or raise its error.

        Raises RuntimeError if the hub has not begun it after `timeout` seconds.
        """
        try:
            if not self._bell.wait(timeout):
                if self._claim.acquire(False):
                    raise RuntimeError(
                        f"the gevent hub of this service was blocked for {timeout:g} s and took nothing from another thread; "
                        "code on that hub that waits for a thread must do so with gevent (gevent.get_hub().threadpool)"
                    )
                self._bell.wait(None)
        except BaseException:
            self._claim.acquire(False)  # Ctrl-C or a kill: an action that has not begun is not run any more.
            raise
        if self._error is not None:
            raise self._error
        return self._answer
