"""Real threads, their locks and waits, whether or not gevent has patched the standard library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.monkey import get_original

_allocate_lock = get_original("_thread", "allocate_lock")
_start_new_thread = get_original("_thread", "start_new_thread")
_poll = get_original("select", "poll")


def allocate_lock() -> Any:
    """A lock of the operating system's threads: taking it blocks the thread, not the greenlet."""
    return _allocate_lock()


def start_thread(run: Callable[[], None]) -> None:
    """A daemon thread of the operating system's; nobody can wait for it."""
    _start_new_thread(run, ())


def poller() -> Any:
    """A `select.poll` that blocks the thread, not the greenlet."""
    return _poll()
