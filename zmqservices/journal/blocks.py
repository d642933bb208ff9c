"""Packs events for the file. The events of one commit are one block.

Each block is one row. One row per event would be slower, because sqlite3 releases the interpreter's lock at every row and gets
it back late if the hub is busy. Measured with a busy hub: 98,000 events/s in blocks of 64, and 33,000 in rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from zmqservices.journal.events import NewEvent, StoredEvent

#: The allowed types of an event's fields: type, body, headers, key.
_EVENTS = frozenset((str, bytes, headers, key) for headers in (bytes, type(None)) for key in (str, type(None)))
#: The allowed types of the first fields of a stored event. The fields above follow, and then its origin.
_PLACES = frozenset((int, int, at) for at in (float, int))

#: Roughly the bytes that a block takes in the file besides its events.
OVERHEAD = 80


class Damaged(ValueError):
    """The file has bytes that were never written to it."""


class Block(NamedTuple):
    """Events `first` to `last`, committed together `at` (wall clock). The events are plain tuples, shaped as NewEvent."""

    first: int
    last: int
    at: float
    events: Sequence[tuple[Any, ...]]


class Row(NamedTuple):
    """The summary of a block, read without its events. `types` counts the events of each type."""

    first: int
    last: int
    at: float
    size: int
    types: dict[str, int]


def pack_events(events: Sequence[NewEvent]) -> bytes:
    """The bytes that `unpack_events` reads. Raises TypeError for an event that cannot be stored."""
    packed: bytes = msgpack.packb(events)
    return packed


def unpack_events(packed: bytes) -> list[tuple[Any, ...]]:
    """The events, as plain tuples. Raises Damaged for bytes that `pack_events` did not make."""
    events = _unpacked(packed)
    for event in events:
        if type(event) is not tuple or tuple(map(type, event)) not in _EVENTS:
            raise Damaged("a block holds something that is not an event")
    return list(events)


def size_of(event: NewEvent) -> int:
    """Roughly the bytes that the event will take in the file."""
    return len(event[0]) + len(event[1]) + len(event[2] or b"") + 16


def count_types(events: Sequence[tuple[Any, ...]]) -> dict[str, int]:
    """How many events there are of each type."""
    counts: dict[str, int] = {}
    for event in events:
        counts[event[0]] = counts.get(event[0], 0) + 1
    return counts


def checksum(first: int, last: int, packed: bytes, before: int) -> int:
    """The checksum of a block's seqs and events, chained to the checksum of the block `before` it."""
    return crc32(packed, crc32(b"%d %d" % (first, last), before))


def pack_event(event: StoredEvent) -> bytes:
    """A whole stored event, for the table of dead letters."""
    packed: bytes = msgpack.packb(event)
    return packed


def unpack_event(packed: bytes) -> StoredEvent:
    """The event that `pack_event` packed. Raises Damaged for other bytes."""
    fields = _unpacked(packed)
    types = tuple(map(type, fields))
    if types[:3] not in _PLACES or types[3:7] not in _EVENTS or types[7:] != (str,):
        raise Damaged("a dead letter holds something that is not an event")
    return StoredEvent(*fields)


def _unpacked(packed: bytes) -> tuple[Any, ...]:
    try:
        found = msgpack.unpackb(packed, use_list=False, max_bin_len=len(packed), strict_map_key=False)
    except Exception as exc:
        raise Damaged(f"not well-formed: {exc or type(exc).__name__}") from exc
    if type(found) is not tuple:
        raise Damaged("not an array")
    return found
