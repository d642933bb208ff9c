"""Locks in an engine, each with a fencing token.

Internal. `Directory.lock` makes one.

Rule 1: a lock counts as held only until its lease could run out at the server, by a clock that also runs while the process or
the machine sleeps. So two processes never hold it at once, as long as their clocks differ by less than a tenth of the lease.
Rule 2: each time that a lock changes hands, its token is higher than all tokens before. A store that remembers the highest token
can refuse late writes of a former holder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from discovery.native import native_lock

#: The part of a lease for which a lock counts as held. The rest allows for clocks that run at different speeds.
TRUSTED = 0.9

_clock = getattr(time, "CLOCK_BOOTTIME", None)


def lock_time() -> float:
    """Seconds, by a clock that also runs while the machine sleeps, if the system has one."""
    return time.monotonic() if _clock is None else time.clock_gettime(_clock)


@dataclass(frozen=True, slots=True)
class Held:
    """This process holds the lock, with this token, at least until this `lock_time`."""

    token: int
    until: float


class EngineLock:
    """A lock that this process wants, until `release`. Usable from any thread and any greenlet."""

    def __init__(self, namespace: str, name: str, released: Callable[[EngineLock], None]) -> None:
        self.namespace = namespace
        self.name = name
        #: The value at the server, by which this process knows its own lock after its connection was lost.
        self.owner = os.urandom(8).hex()
        self._released = released
        self._guard = native_lock()
        self._is_wanted = True
        self._held: Held | None = None

    @property
    def token(self) -> int | None:
        """The fencing token while the lock is held; None otherwise."""
        held = self._held
        return held.token if held is not None and lock_time() < held.until else None

    def grant(self, held: Held | None) -> None:
        """Sets the server's answer: the lock is held, or not (None)."""
        with self._guard:
            self._held = held if self._is_wanted else None

    def release(self) -> None:
        """Gives the lock up, and has the server told. A second call does nothing."""
        with self._guard:
            was_wanted, self._is_wanted, self._held = self._is_wanted, False, None
        if was_wanted:
            self._released(self)


class EngineLocks:
    """The locks that a process wants from one engine. `seconds`: the lease of each lock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        #: Called, from any thread, when a lock is wanted or released.
        self.changed: Callable[[], None] = lambda: None
        self._guard = native_lock()
        self._wanted: list[EngineLock] = []
        self._released: list[EngineLock] = []

    def new(self, namespace: str, name: str) -> EngineLock:
        """A new lock, which is wanted from now on."""
        lock = EngineLock(namespace, name, self._release)
        with self._guard:
            self._wanted.append(lock)
        self.changed()
        return lock

    def wanted(self) -> list[EngineLock]:
        """The locks that this process wants."""
        with self._guard:
            return list(self._wanted)

    def released(self) -> list[EngineLock]:
        """The locks that must be released at the server."""
        with self._guard:
            return list(self._released)

    def has_answered(self, lock: EngineLock) -> None:
        """The server has answered the release of a lock. If its connection is lost before, the next one releases the lock."""
        with self._guard:
            if lock in self._released:
                self._released.remove(lock)

    def release_all(self) -> None:
        """Releases all locks, since the directory stops."""
        for lock in self.wanted():
            lock.release()

    def _release(self, lock: EngineLock) -> None:
        with self._guard:
            self._wanted.remove(lock)
            self._released.append(lock)
        self.changed()
