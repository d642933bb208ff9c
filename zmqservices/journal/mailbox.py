"""The mailbox of the journal's thread: other threads and greenlets put in what it shall do, and may wait for it."""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from zmqservices.utils.native_threads import allocate_lock, release

#: Seconds for which nobody gives way to a thread that needed longer than it was given.
GIVES_NO_WAY = 0.1


class Mailbox:
    """Things for one thread, from any thread or greenlet; putting never waits."""

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self._lock = allocate_lock()
        self._lock.acquire()
        self._is_asleep = False
        self._rest = allocate_lock()
        self._rest.acquire()
        self._is_awaited = False
        self._busy_until = 0.0

    def put(self, thing: Any) -> None:
        """The thread wakes for it."""
        self.items.append(thing)
        if self._is_asleep:
            self._is_asleep = False
            release(self._lock)  # Unless another thread woke it at the same moment.

    def wait(self, timeout: float | None) -> None:
        """Returns when there is something, or after `timeout` seconds, or now and then for nothing. By the one thread."""
        self._is_asleep = True
        # Looked at after saying so: whoever puts something from here on sees that we sleep.
        if not self.items:
            if self._is_awaited:
                self._is_awaited = False
                release(self._rest)
            self._lock.acquire(True, -1 if timeout is None else max(0.0, timeout))
        self._is_asleep = False

    def give_way(self, seconds: float) -> bool:
        """Let the thread run until it is through with what was put, for at most `seconds`; False: it needs longer.

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
            # What woke us may have been meant for an earlier wait, so we look again.
            if not self._rest.acquire(True, max(0.0, end - monotonic())):
                self._is_awaited = False
                self._busy_until = end + GIVES_NO_WAY
                return False


class Flag:
    """Something that happened once; a thread (not a greenlet) may wait for it."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """It happened. Twice does no harm."""
        release(self._lock)

    def wait(self) -> None:
        """Until it has happened."""
        with self._lock:
            pass


def call(callback: Callable[[Any], None], argument: Any) -> None:
    """Tells what happened. A callback that fails is shown on stderr: logging may belong to greenlets here."""
    try:
        callback(argument)
    except Exception:
        traceback.print_exc(file=sys.stderr)
