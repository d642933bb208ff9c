"""What an engine must offer: a server that people run anyway, such as etcd, and that can keep a directory.

Internal. An engine is written as a session: blocking calls that run in native threads of their own. `EngineConnection` makes
a session look like a connection to one registry, so that merging, notes, the cache and flushes are the same for every kind.

Rule 1: two threads use a session. One of them writes, the other one is in `watch`; only `close` may come from a third.
Rule 2: an attempt that has failed is over. The next one has a session of its own, which reads everything anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from discovery.client.locks import EngineLock, Held
from discovery.interest import EVERYTHING, Interest
from discovery.model import Note, Record
from discovery.record_blocks import RecordBlock
from discovery.security.revocations import FoundList, Revocations


@dataclass(frozen=True, slots=True)
class Gone:
    """The engine does not list this instance any more: it was withdrawn, or its lease ran out."""

    instance: str


@dataclass(frozen=True, slots=True)
class Vacant:
    """A lock that another process held is free."""


Change = Record | Note | FoundList | Gone | Vacant


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything that an engine holds of a namespace, as far as it is of interest.

    `cluster`: an id of the stored data. It is another one after the engine has lost everything.
    `interest`: `records` are all that the engine holds of these keys; EVERYTHING for an engine that cannot select.
    `revoked`: the signed lists of revoked certificates, or whatever stands in their place.
    `blocks`: further records, which are decoded when they are first used.
    """

    cluster: str
    records: list[Record]
    notes: list[Note]
    interest: Interest = EVERYTHING
    revoked: tuple[bytes, ...] = ()
    blocks: list[RecordBlock] = field(default_factory=list)


class EngineSession(Protocol):
    """One attempt at an engine.

    An EngineError ends the attempt; its text is for users. An EngineRefusal is about one record, note or lock; the attempt
    goes on.
    """

    def open(self, interest: Interest) -> Contents:
        """Connects, and reads the records of interest and all notes."""

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads the records under these keys as well. From now on `watch` also tells their changes.

        Called only if `open` told less than everything. What `watch` yields meanwhile is handed on after this returns.
        """

    def watch(self) -> Iterator[Iterable[Change]]:
        """Yields all changes of interest after those that `open` returned, in their order. Ends when the session is closed.

        Each item is iterated once, and never while `extend` runs. A session may therefore read a change while it is iterated.
        """

    def put_record(self, record: Record) -> None:
        """Stores a record under a lease of its ttl, which `keep` renews."""

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes a record. A record that is not there is ignored."""

    def put_note(self, note: Note) -> None:
        """Stores a note or tombstone, unless the engine has one of a higher rank."""

    def put_revoked(self, revoked: Revocations) -> None:
        """Stores a list for all namespaces, unless the engine has a newer one of its authority. Only in a closed cluster."""

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Takes a lock with a lease of `seconds`, or confirms that it is still held. None while another process holds it."""

    def release_lock(self, lock: EngineLock) -> None:
        """Gives a lock back. A lock that is not held is ignored."""

    def keep(self) -> list[str]:
        """Renews the leases, and checks that the engine answers. Returns the own instances whose lease is lost."""

    def goes_on(self, overdue: int) -> bool:
        """Whether `keep` is called again after it has raised EngineOverdueError, `overdue` times in a row. See `patience`."""

    def keep_every(self) -> float:
        """Seconds until `keep` must be called again."""

    def close(self) -> None:
        """Ends `watch` and closes the connections. Called once or more often, from any thread."""
