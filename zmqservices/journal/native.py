"""A thread of the operating system and what it is handed, whether or not gevent has patched the process."""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from gevent.monkey import get_original

start_thread = get_original("_thread", "start_new_thread")
allocate_lock = get_original("_thread", "allocate_lock")


class Post:
    """Things for one thread, from any thread or greenlet; putting never waits."""

    def __init__(self) -> None:
        self.things: deque[Any] = deque()
        self._lock = allocate_lock()
        self._lock.acquire()
        self._is_asleep = False

    def put(self, thing: Any) -> None:
        """The thread wakes for it."""
        self.things.append(thing)
        if self._is_asleep:
            self._is_asleep = False
            try:
                self._lock.release()
            except RuntimeError:
                pass  # Another thread woke it at the same moment.

    def wait(self, timeout: float | None) -> None:
        """Returns when there is something, or after `timeout` seconds, or now and then for nothing. By the one thread."""
        self._is_asleep = True
        # Looked at after saying so: whoever puts something from here on sees that we sleep.
        if not self.things:
            self._lock.acquire(True, -1 if timeout is None else max(0.0, timeout))
        self._is_asleep = False


class Flag:
    """Something that happened once; a thread (not a greenlet) may wait for it."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """It happened. Twice does no harm."""
        try:
            self._lock.release()
        except RuntimeError:
            pass

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
