"""The messages of etcd's watch.

Sources of the rules: etcd's `rpc.proto` and `kv.proto`.

Rule 1: no sockets, no threads, no clock here.
Rule 2: decoding raises ValueError for bytes that are no message of etcd's, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from discovery.backends.etcd.protobuf import field, fields, raw, signed


@dataclass(frozen=True, slots=True)
class Range:
    """The keys from `start` up to and without `end`; only `start` if `end` is empty."""

    start: bytes
    end: bytes = b""


def below(prefix: str) -> Range:
    """All keys that begin with `prefix`, which ends with a slash."""
    start = prefix.encode()
    return Range(start, start[:-1] + bytes([start[-1] + 1]))


@dataclass(frozen=True, slots=True)
class Event:
    """A key was put or deleted. `revision`: that of the transaction."""

    key: bytes
    value: bytes
    revision: int
    is_deletion: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the watch about one range.

    `is_over`: etcd has ended the watch of this range, for `reason`. `compacted`: it has because it no longer has the changes
    before this revision; 0 otherwise.
    """

    watch: int
    events: list[Event]
    is_over: bool = False
    compacted: int = 0
    reason: str = ""


def encode_create(watch: int, span: Range, revision: int) -> bytes:
    """The request to watch these keys from this revision on (WatchCreateRequest). etcd's answers bear the number `watch`."""
    create = field(1, span.start) + field(2, span.end) + field(3, revision) + field(7, watch)
    return field(1, create)


def decode_answer(message: bytes) -> Answer:
    """The answer in a WatchResponse of etcd. ValueError for anything else."""
    found = list(fields(message))
    known = {number: value for number, value in found if number != 11}
    return Answer(
        signed(known.get(2, 0)),
        [_event(raw(value)) for number, value in found if number == 11],
        bool(known.get(4, 0)),
        signed(known.get(5, 0)),
        raw(known.get(6, b"")).decode(errors="replace")[:200],
    )


def _event(message: bytes) -> Event:
    event = dict(fields(message))
    item = dict(fields(raw(event.get(2, b""))))
    return Event(raw(item.get(1, b"")), raw(item.get(5, b"")), signed(item.get(3, 0)), event.get(1, 0) == 1)
