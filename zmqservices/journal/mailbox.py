"""The mailbox of the journal's thread: other threads and greenlets post jobs to it, and may wait for them."""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from zmqservices.utils.native_threads import allocate_lock, release

#: After the thread needed longer than a caller would wait, no caller waits for it for this many seconds.
GIVES_NO_WAY = 0.1


class Mailbox:
    """A queue of jobs for one thread. Any thread or greenlet may post to it, which never blocks."""

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self._lock = allocate_lock()
        self._lock.acquire()
        self._is_asleep = False
        self._rest = allocate_lock()
        self._rest.acquire()
        self._is_awaited = False
        self._busy_until = 0.0

    def put(self, thing: object) -> None:
        """Post a job and wake the thread."""
        self.items.append(thing)
        if self._is_asleep:
            self._is_asleep = False
            release(self._lock)  # Unless another thread woke it at the same moment.

    def wait(self, timeout: float | None) -> None:
        """Block until there is a job, at most `timeout` seconds. May return early. Only the journal's thread calls it."""
        self._is_asleep = True
        # The flag is set before the queue is read: every later post sees that the thread sleeps, and wakes it.
        if not self.items:
            if self._is_awaited:
                self._is_awaited = False
                release(self._rest)
            self._lock.acquire(True, -1 if timeout is None else max(0.0, timeout))
        self._is_asleep = False

    def give_way(self, seconds: float) -> bool:
        """Block until the thread has done all posted jobs, at most `seconds`. False if it needs longer.

        A busy hub releases the interpreter's lock for microseconds only, so the journal's thread may wait for it for tens of
        milliseconds, several times a commit. If the thread is slow because of its disk, waiting for it is no use: then this
        returns at once for the next GIVES_NO_WAY seconds.
        """
        now = monotonic()
        if now < self._busy_until:
            return False
        end = now + seconds
        while True:
            self._is_awaited = True
            if self._is_asleep and not self.items:
                self._is_awaited = False
                return True
            # The wake-up may belong to an earlier wait, so check again.
            if not self._rest.acquire(True, max(0.0, end - monotonic())):
                self._is_awaited = False
                self._busy_until = end + GIVES_NO_WAY
                return False


class Flag:
    """An event that happens once. A thread, not a greenlet, may wait for it."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """Set the event. A second time has no effect."""
        release(self._lock)

    def wait(self) -> None:
        """Block until the event is set."""
        with self._lock:
            pass


def call(callback: Callable[[Any], None], argument: object) -> None:
    """Call a callback with its result. Its error is printed to stderr: in a patched process this thread must not log."""
    try:
        callback(argument)
    except Exception:
        traceback.print_exc(file=sys.stderr)
