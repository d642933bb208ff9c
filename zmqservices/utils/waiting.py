"""Waits in a greenlet until a condition is true, for a bounded time.

Internal. Tests use `zmqservices.testing.waiting`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol


class ChangeEvent(Protocol):
    """The part of `gevent.event.Event` that a wait needs."""

    def clear(self) -> None: ...

    def wait(self, timeout: float | None) -> object: ...


def wait_until(
    condition: Callable[[], bool],
    changed: ChangeEvent,
    timeout: float | None,
    interval: float | None = None,
    clock: Callable[[], float] = monotonic,
) -> bool:
    """Block until `condition()` is true, at most `timeout` seconds (None: without a limit). Returns whether it is true.

    `changed` is an event that must be set after each change that may make the condition true; it is cleared here. If some
    changes do not set it, give `interval`: the condition is also checked every `interval` seconds.
    """
    deadline = None if timeout is None else clock() + timeout
    while True:
        # Cleared before the condition is checked, so that a change in between is not missed.
        changed.clear()
        if condition():
            return True
        left = interval
        if deadline is not None:
            left = deadline - clock()
            if left <= 0:
                return False
            if interval is not None:
                left = min(left, interval)
        changed.wait(left)
