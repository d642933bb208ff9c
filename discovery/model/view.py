"""The view of a directory: all records that a client knows, and how far they can be trusted.

Internal. Programs import it from `discovery`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from discovery.model.note import Note
from discovery.model.record import Record


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as a client sees it.

    `age`: seconds since the last known contact with the record's holder. While a registry is connected, the ages of its
    records stay low; while it is unreachable, they grow. `suspect`: the lease ran out at the same time as too many others. The
    registry keeps such records, since the fault is probably its own. `is_listed`: a connected directory lists this version.
    False for a record that only this process knows so far, such as its own announcement, and for one that it has kept.
    """

    record: Record
    age: float = 0.0
    suspect: bool = False
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """All records that a client knows, and how far they can be trusted.

    `fresh`: some registry is connected and past its warm-up. `stale_for`: seconds since the view was last fresh.
    `registries`: for each one a mapping with url, address, state, boot_id, warming, records, error.
    `notes`: all notes of the namespace, tombstones included.
    """

    records: Mapping[str, Seen] = field(default_factory=dict)
    fresh: bool = False
    stale_for: float = 0.0
    registries: Sequence[dict[str, Any]] = ()
    notes: tuple[Note, ...] = ()

    def service(self, name: str) -> list[Seen]:
        """The instances of one service."""
        return [seen for seen in self.records.values() if seen.record.service == name]
