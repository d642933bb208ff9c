"""The mailbox of the journal's thread: other threads and greenlets post jobs to it, and may wait for them."""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from zmqservices.utils.native_threads import allocate_lock, release

#: Seconds for which no caller waits for the thread after it needed longer than it was given.
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
        """Post a job, and wake the thread."""
        self.items.append(thing)
        if self._is_asleep:
            self._is_asleep = False
            release(self._lock)  # Unless another thread woke it at the same moment.

    def wait(self, timeout: float | None) -> None:
        """Block until there is a job, for at most `timeout` seconds. It may also return early without one. For the one thread."""
        self._is_asleep = True
        # Look at the queue after the flag is set: each later post sees that the thread sleeps, and wakes it.
        if not self.items:
            if self._is_awaited:
                self._is_awaited = False
                release(self._rest)
            self._lock.acquire(True, -1 if timeout is None else max(0.0, timeout))
        self._is_asleep = False

    def give_way(self, seconds: float) -> bool:
        """Block until the thread has done all posted jobs, for at most `seconds`. False if it needs longer.

        A hub that has always something to do lets go of the interpreter for microseconds only, and a thread that waits for
        it in the ordinary way may do so for tens of milliseconds, several times a commit. Where the thread waits for its
        disk instead, nobody is made to wait with it: the next GIVES_NO_WAY seconds this returns at once.
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
            # The wake-up may belong to an earlier wait, so look again.
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
