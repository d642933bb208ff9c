"""Makes the pages of a group's events from the blocks of a journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from zmqservices.journal.blocks import Block
from zmqservices.journal.events import LostRange, Page, StoredEvent
from zmqservices.journal.group_state import GroupState

#: The most events that are read for one page, so that other jobs of the journal's thread do not wait for long.
_LOOKED_AT = 20_000


class Paging:
    """A page that is being made. Events that the group does not subscribe to are marked in the group's state."""

    def __init__(self, group_state: GroupState, after: int, limit: int, max_bytes: int) -> None:
        self._group_state = group_state
        self._limit = limit
        self._bytes_left = max_bytes
        self._looks_left = _LOOKED_AT
        self._items: list[StoredEvent | LostRange] = []
        self._position = self._previous = after

    def page(self, blocks: Iterable[Block], origin_of: Callable[[int], str], last_seq: int) -> Page:
        """Make the page from `blocks`, which begin at the first event of the page or before it."""
        for block in blocks:
            if not self._take(block, origin_of(block.first)):
                return Page(tuple(self._items), self._position, False)
        for gap in self._group_state.gaps_after(self._position):
            self._add_gap(gap)
        return Page(tuple(self._items), max(self._position, last_seq), True)

    def _take(self, block: Block, origin: str) -> bool:
        """Add the events of a block. False if the page is full before the end of the block."""
        gaps = self._group_state.gaps_after(self._position)
        begin = max(block.first, self._position + 1)
        for seq, event in enumerate(block.events[begin - block.first :], begin):
            if gaps:
                while gaps and gaps[0].from_seq <= seq and len(self._items) < self._limit:
                    self._add_gap(gaps.pop(0))
                if seq <= self._position:
                    continue
            if len(self._items) >= self._limit or self._bytes_left <= 0 or self._looks_left <= 0:
                return False
            self._look(seq, event, block.at, origin)
        return True

    def _look(self, seq: int, event: tuple[str, bytes, bytes | None, str | None], at: float, origin: str) -> None:
        group_state = self._group_state
        self._looks_left -= 1
        self._position = seq
        if not group_state.wants(event[0]):
            group_state.skip(seq, seq)
        elif seq not in group_state.acked:
            event_type, body, headers, key = event
            self._items.append(StoredEvent(seq, self._previous, at, event_type, body, headers, key, origin))
            self._bytes_left -= len(body)
            self._previous = seq

    def _add_gap(self, gap: LostRange) -> None:
        self._items.append(self._group_state.hand_out(gap))
        self._position = self._previous = max(self._position, gap.to_seq)


def look(
    blocks: Iterator[Block],
    after: int,
    limit: int,
    wants: Callable[[str], bool],
    origin_of: Callable[[int], str],
    last_seq: int,
) -> Page:
    """A page for a reader that is not a group."""
    items: list[StoredEvent | LostRange] = []
    position = previous = after
    looked_at = 0
    for block in blocks:
        for seq, event in enumerate(block.events, block.first):
            if seq <= position:
                continue
            if len(items) >= limit or looked_at >= _LOOKED_AT:
                return Page(tuple(items), position, False)
            looked_at += 1
            position = seq
            if wants(event[0]):
                event_type, body, headers, key = event
                items.append(StoredEvent(seq, previous, block.at, event_type, body, headers, key, origin_of(seq)))
                previous = seq
    return Page(tuple(items), max(position, last_seq), True)
