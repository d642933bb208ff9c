"""Locks and waits of real threads, whether or not gevent has patched the standard library."""

from __future__ import annotations

from typing import Any

from gevent.monkey import get_original

_allocate_lock = get_original("_thread", "allocate_lock")
_poll = get_original("select", "poll")


def allocate_lock() -> Any:
    """A lock of the operating system's threads: taking it blocks the thread, not the greenlet."""
    return _allocate_lock()


def poller() -> Any:
    """A `select.poll` that blocks the thread, not the greenlet."""
    return _poll()
