"""What one reading of an engine's keys has found, sorted into records, notes and lists of revoked certificates.

Internal. Shared by etcd and Consul.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument, in seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from discovery.backends.keyspace import Keyspace
from discovery.model import Note, Record
from discovery.record_blocks import Entry, RecordBlock, blocks_of
from discovery.security.revocations import FoundList

Item = TypeVar("Item")


@dataclass
class Found(Generic[Item]):
    """`records` by instance. `expired`: the engine's own items of notes that are past their ttl, to be deleted.

    `is_packed`: records are not decoded, if that can wait, and `blocks` has them.
    """

    is_packed: bool = False
    records: dict[str, Record] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    revoked: list[FoundList] = field(default_factory=list)
    expired: list[Item] = field(default_factory=list)

    def sort(self, space: Keyspace, key: str, value: bytes, item: Item, now: float) -> None:
        """Adds what the key holds, and remembers in `space` that a record is listed under it. Unusable values are ignored."""
        found = space.listed(key, value) if self.is_packed else space.decoded(key, value)
        if isinstance(found, FoundList):
            self.revoked.append(found)
        elif isinstance(found, tuple):
            space.entry_came(found, key)
            self.entries[found[1][0]] = found
        elif isinstance(found, Record):
            space.came(found, key)
            self.records[found.instance] = found
        elif isinstance(found, Note):
            if found.age(now) > found.ttl:
                self.expired.append(item)
            else:
                self.notes.append(found)

    def blocks(self) -> list[RecordBlock]:
        """The records that were not decoded."""
        return blocks_of(entry for instance, entry in self.entries.items() if instance not in self.records)
