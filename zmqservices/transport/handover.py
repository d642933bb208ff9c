"""What a thread wants done on the gevent hub of another thread, and how it waits for that meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent.event
from gevent._hub_local import get_hub_if_exists

from zmqservices.utils.native_threads import allocate_lock, release

#: Seconds that a hub gets to take up what another thread asks of it, where nothing else bounds the wait.
TAKE_UP_TIMEOUT = 30.0


class Bell:
    """Rung once, from any thread. Whoever made it may wait for it: a hub that runs on its thread runs on."""

    __slots__ = ("_hub", "_rung", "_lock")

    def __init__(self) -> None:
        self._hub: Any = get_hub_if_exists()
        if self._hub is None:
            self._lock = allocate_lock()
            self._lock.acquire()
        else:
            self._rung = gevent.event.Event()

    def ring(self) -> None:
        """Twice does no harm."""
        if self._hub is None:
            release(self._lock)
        elif self._hub.loop is not None:  # A hub that is gone had nobody left to hear it.
            self._hub.loop.run_callback_threadsafe(self._rung.set)

    def wait(self, timeout: float | None) -> bool:
        """True once it has rung, False after `timeout` seconds. True may be answered once only."""
        if self._hub is not None:
            return bool(self._rung.wait(timeout))
        return bool(self._lock.acquire(True, -1 if timeout is None else max(0.0, timeout)))


class Handover:
    """One thing to be done there: either it is done, or its thread gave it up before it was begun."""

    __slots__ = ("_action", "_args", "_bell", "_claim", "_answer", "_error")

    def __init__(self, action: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._action, self._args = action, args
        self._bell = Bell()
        #: Taken by who comes first: the hub that begins, or the thread that gives up.
        self._claim = allocate_lock()
        self._answer: Any = None
        self._error: BaseException | None = None

    def do(self) -> None:
        """Called on the hub."""
        if not self._claim.acquire(False):
            return
        try:
            self._answer = self._action(*self._args)
        except BaseException as exc:
            self._error = exc
        self._bell.ring()

    def refuse(self, error: BaseException) -> None:
        """Called on the hub in the place of `do`: it is not done any more."""
        if self._claim.acquire(False):
            self._error = error
            self._bell.ring()

    def wait(self, timeout: float) -> Any:
        """What the action returned or raised. RuntimeError where the hub has not begun it after `timeout` seconds."""
        try:
            if not self._bell.wait(timeout):
                if self._claim.acquire(False):
                    raise RuntimeError(
                        f"the gevent hub of this service was blocked for {timeout:g} s and took nothing from another thread; "
                        "whoever waits there for a thread must wait by gevent's means (gevent.get_hub().threadpool)"
                    )
                self._bell.wait(None)
        except BaseException:
            self._claim.acquire(False)  # Ctrl-C, a kill: what was not begun is not to be.
            raise
        if self._error is not None:
            raise self._error
        return self._answer
