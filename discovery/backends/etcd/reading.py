"""Reads prefixes of etcd's keys, all at one revision."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from discovery.backends.etcd.member import EtcdFailure, EtcdMember
from discovery.backends.etcd.messages import Range, below
from discovery.backends.etcd.ranges import (
    RANGE,
    TXN,
    RangePage,
    ReadAnswer,
    StoredKey,
    decode_range,
    decode_ranges,
    encode_range,
    encode_ranges,
)
from discovery.backends.etcd.writes import OPERATIONS, delete_if_unchanged
from discovery.backends.found import Found
from discovery.backends.keyspace import Keyspace
from discovery.exceptions import EngineError

#: Keys of one prefix in one answer.
PAGE = 1000
#: Expired notes that one reading deletes.
MAX_SWEPT = 100


@dataclass
class EtcdListing:
    """What was found, the id of the cluster, and the revision at which everything was read."""

    cluster: str = ""
    revision: int = 0
    found: Found[StoredKey] = field(default_factory=Found)


def read(member: EtcdMember, space: Keyspace, prefixes: list[str], is_packed: bool = False) -> EtcdListing:
    """Reads everything below these prefixes, and deletes notes that are past their ttl. `is_packed`: see `Found`."""
    reading = EtcdListing(found=Found(is_packed=is_packed))
    items: list[StoredKey] = []
    for start in range(0, len(prefixes), OPERATIONS):
        some = [below(prefix) for prefix in prefixes[start : start + OPERATIONS]]
        answer = _ask(member, TXN, encode_ranges([encode_range(span, PAGE, reading.revision) for span in some]))
        reading.cluster = answer.cluster
        reading.revision = reading.revision or answer.revision
        for span, page in zip(some, _pages(member, answer, len(some)), strict=True):
            items += _all_pages(member, span, page, reading.revision)
    for item in items:
        reading.found.sort(space, item.key.decode(errors="replace"), item.value, item, time.time())
    for item in reading.found.expired[:MAX_SWEPT]:
        _sweep(member, item)
    return reading


def listed(member: EtcdMember, keys: list[str]) -> list[str]:
    """Those of these keys that are there."""
    found: list[str] = []
    for start in range(0, len(keys), OPERATIONS):
        some = keys[start : start + OPERATIONS]
        answer = _ask(member, TXN, encode_ranges([encode_range(Range(key.encode()), keys_only=True) for key in some]))
        found += [key for key, page in zip(some, _pages(member, answer, len(some)), strict=True) if page.items]
    return found


def check(member: EtcdMember, space: Keyspace) -> None:
    """Reads a key that is never there. EngineError if etcd does not answer, for instance because it has no quorum."""
    _ask(member, RANGE, encode_range(Range(space.root.encode())))


def _ask(member: EtcdMember, path: str, request: bytes) -> ReadAnswer:
    with member.errors():
        answer = member.ask(path, request)
        return decode_ranges(answer) if path == TXN else decode_range(answer)


def _pages(member: EtcdMember, answer: ReadAnswer, number: int) -> list[RangePage]:
    if len(answer.pages) != number:
        raise EngineError(f"{member.name} answered {len(answer.pages)} of {number} requests")
    return answer.pages


def _all_pages(member: EtcdMember, span: Range, page: RangePage, revision: int) -> list[StoredKey]:
    """The keys on the first page of a range, and on all further pages."""
    found = page.items
    while page.has_more and page.items:
        rest = Range(page.items[-1].key + b"\0", span.end)
        (page,) = _ask(member, RANGE, encode_range(rest, PAGE, revision)).pages
        found = found + page.items
    return found


def _sweep(member: EtcdMember, item: StoredKey) -> None:
    try:
        member.ask(TXN, delete_if_unchanged(item.key, item.revision))
    except EtcdFailure:
        pass  # This user may only read; other clients delete the note.
