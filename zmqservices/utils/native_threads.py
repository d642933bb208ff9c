"""Native threads with their locks and waits, whether or not gevent has patched the standard library.

Internal. `discovery` has a similar module, because it does not import zmqservices and works without gevent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gevent.monkey import get_original

_allocate_lock = get_original("_thread", "allocate_lock")
_reentrant_lock = get_original("_thread", "RLock")
_start_new_thread = get_original("_thread", "start_new_thread")
_poll = get_original("select", "poll")

#: The number of the current native thread.
get_ident: Callable[[], int] = get_original("_thread", "get_ident")


class NativeLock(Protocol):
    """The used methods of a native lock."""

    def release(self) -> None: ...


def allocate_lock() -> Any:
    """A native lock: taking it blocks the thread, not only the greenlet."""
    return _allocate_lock()


def reentrant_lock() -> Any:
    """A native lock that the same thread may take again, as in a signal handler or a finalizer while it holds the lock."""
    return _reentrant_lock()


def release(lock: NativeLock) -> None:
    """Release a lock. Another thread may have released it at the same moment."""
    try:
        lock.release()
    except RuntimeError:
        pass


def start_thread(run: Callable[[], None]) -> None:
    """Start a daemon thread. It cannot be joined."""
    _start_new_thread(run, ())


def poller() -> Any:
    """A `select.poll` that blocks the thread, not only the greenlet."""
    return _poll()
