"""Reads the blocks of a journal: the newest from memory, the others from the file, with a check of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from zmqservices.journal.blocks import Block, checksum, unpack_events
from zmqservices.journal.store import Store

#: The most events and bytes of new blocks that stay in memory, so that a fetch does not read the disk.
RECENT_EVENTS = 4096
RECENT_BYTES = 1 << 22
#: The most blocks that are read from the disk at a time. The first read takes one, because a full block fills a page.
_BLOCKS_AT_A_TIME = 32


class BlockCache:
    """The blocks of one store. `damaged(first)` is called for each damaged block."""

    def __init__(self, store: Store, damaged: Callable[[int], None]) -> None:
        self._store = store
        self._damaged = damaged
        self._recent: deque[tuple[Block, int]] = deque()
        self._recent_events = self._recent_bytes = 0
        self._last_read: Block | None = None

    def remember(self, block: Block, size: int) -> None:
        """Keep a block that was just appended."""
        recent = self._recent
        recent.append((block, size))
        self._recent_events += block.last - block.first + 1
        self._recent_bytes += size
        while len(recent) > 1 and (self._recent_events > RECENT_EVENTS or self._recent_bytes > RECENT_BYTES):
            self._forget_oldest()

    def forget(self, to_seq: int) -> None:
        """Forget the blocks up to that seq: they were deleted from the file."""
        while self._recent and self._recent[0][0].last <= to_seq:
            self._forget_oldest()
        self._last_read = None

    def _forget_oldest(self) -> None:
        old, size = self._recent.popleft()
        self._recent_events -= old.last - old.first + 1
        self._recent_bytes -= size

    def block(self, first: int) -> Iterator[Block]:
        """The block that begins at seq `first`. Yields nothing if the block is damaged."""
        return self._checked(self._store.packed(first - 1, 1))

    def blocks(self, after: int) -> Iterator[Block]:
        """The blocks with events after that seq."""
        if self._last_read is not None and self._last_read.first <= after + 1 <= self._last_read.last:
            # A page seldom ends together with a block, so the next page begins inside the same block.
            yield self._last_read
            after = self._last_read.last
        limit = 1
        while not (self._recent and after + 1 >= self._recent[0][0].first):
            found = self._store.packed(after, limit)
            if not found:
                return
            for block in self._checked(found):
                self._last_read = block
                yield block
            after = found[-1][1]
            limit = min(2 * limit, _BLOCKS_AT_A_TIME)
        yield from self._newest(after)

    def _newest(self, after: int) -> Iterator[Block]:
        wanted = []
        for block, _ in reversed(self._recent):
            if block.last <= after:
                break
            wanted.append(block)
        return reversed(wanted)

    def _checked(self, found: list[tuple[int, int, float, int, int, bytes]]) -> Iterator[Block]:
        for first, last, at, before, crc, packed in found:
            events = _events(first, last, before, crc, packed)
            if events is None:
                self._damaged(first)
            else:
                yield Block(first, last, at, events)


def _events(first: int, last: int, before: int, crc: int, packed: bytes) -> list[tuple[Any, ...]] | None:
    """The events of a block. None if the block is damaged."""
    try:
        return unpack_events(packed) if checksum(first, last, packed, before) == crc else None
    except (TypeError, ValueError):
        # A field has another type than when it was written.
        return None
