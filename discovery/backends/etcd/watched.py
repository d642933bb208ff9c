"""Which ranges of keys are watched, and on which connection."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from discovery.backends.etcd.messages import Range, below
from discovery.backends.etcd.watch import WatchConnection
from discovery.native import native_lock


@dataclass(frozen=True, slots=True)
class WatchedRange:
    """A range that is watched from a revision on. `prefix` is empty for the single key of a lock."""

    keys: Range
    revision: int
    prefix: str = ""


class WatchedRanges:
    """All ranges of one session. Usable from any thread."""

    def __init__(self) -> None:
        self._guard = native_lock()
        #: By the number that etcd's answers bear.
        self._watched: dict[int, WatchedRange] = {}
        self._numbers = itertools.count(1)
        self._locks: set[bytes] = set()
        self._connection: WatchConnection | None = None

    def begin(self, connection: WatchConnection) -> None:
        """Watches all ranges, and those that are added later, on this connection."""
        with self._guard:
            self._connection = connection
            for number, watched in self._watched.items():
                connection.ask(number, watched.keys, watched.revision)

    def end(self) -> None:
        """Called when the connection is about to be closed."""
        with self._guard:
            self._connection = None

    def add(self, watched: WatchedRange) -> None:
        """Watches a range: at once, or as soon as there is a connection."""
        with self._guard:
            number = next(self._numbers)
            self._watched[number] = watched
            if self._connection is not None:
                self._connection.ask(number, watched.keys, watched.revision)

    def add_prefixes(self, prefixes: list[str], revision: int) -> None:
        """Watches all keys below these prefixes from this revision on."""
        for prefix in prefixes:
            self.add(WatchedRange(below(prefix), revision, prefix))

    def add_lock(self, key: str, revision: int) -> None:
        """Watches the key of a lock that another process holds, unless it is watched already."""
        name = key.encode()
        if name not in self._locks:
            self._locks.add(name)
            self.add(WatchedRange(Range(name), revision))

    def pop(self, number: int) -> WatchedRange | None:
        """Removes a range whose watch etcd has ended."""
        return self._watched.pop(number, None)
