"""Deletes events from the journal: handled ones first, then unhandled ones by its bounds. Expires groups without members.

Only the oldest blocks are ever deleted, so the blocks in the file have no hole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zmqservices.exceptions import JournalFull
from zmqservices.journal.blocks import Row
from zmqservices.journal.events import Dropped, Expired, LostRange, Notice
from zmqservices.journal.group_state import GroupState
from zmqservices.journal.journal_state import JournalState

#: The most blocks that are deleted at a time, so that other jobs of the journal's thread do not wait for long.
_BLOCKS_AT_A_TIME = 256
#: When there is no room, 1/_AT_ONCE of all bytes is freed at a time.
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a journal; `Journal.open` explains each."""

    max_bytes: int = 1 << 30
    max_age: float | None = None
    retention: float = 3600.0
    drops_oldest: bool = False


class Retention:
    """The bounds of one journal. `on_notice` is called for events that were deleted unhandled."""

    def __init__(self, state: JournalState, bounds: Bounds, on_notice: Callable[[Notice], None]) -> None:
        self._state = state
        self._bounds = bounds
        self._on_notice = on_notice
        self._news: dict[tuple[str, str], LostRange] = {}

    # --- room for new events --------------------------------------------------------------------------------------------

    def room(self, wanted: int) -> int:
        """Delete events until `wanted` bytes may be appended, if that is allowed. Returns the bytes that may be appended."""
        while self.free < wanted:
            missing = wanted - self.free
            if not (self._drop_some(missing, self.floor()) or self._drop_some(missing, self._proven_floor())):
                break
        return self.free

    @property
    def free(self) -> int:
        """Bytes that may be appended without deleting anything."""
        return self._bounds.max_bytes - self._state.size

    def _drop_some(self, wanted: int, floor: int) -> bool:
        # Delete more than needed, so that not every append has to delete something.
        wanted += self._bounds.max_bytes // _AT_ONCE
        limit = 1 << 62 if self._bounds.drops_oldest else floor
        going: list[Row] = []
        for row in self._state.store.rows(limit=_BLOCKS_AT_A_TIME):
            if wanted <= 0 or row.last > limit:
                break
            going.append(row)
            wanted -= row.size
        self._drop(going, "bytes")
        return bool(going)

    def drop_handled(self) -> bool:
        """Delete the events that all groups have handled. False if there were none."""
        for floor in (self.floor(), self._proven_floor()):
            going = [row for row in self._state.store.rows(limit=_BLOCKS_AT_A_TIME) if row.last <= floor]
            self._drop(going, "bytes")
            if going:
                return True
        return False

    def full(self) -> JournalFull:
        """The error for an append when there is no room."""
        state = self._state
        now = state.clock()
        reasons = [group_state for group_state in state.groups.values() if group_state.may_be_refused_for(now)]
        slowest = max(reasons, key=lambda group_state: group_state.waiting, default=None)
        text = f"journal {str(state.store.path)!r} holds {state.size} of {self._bounds.max_bytes} bytes"
        if slowest is not None and slowest.waiting:
            text += f"; group {slowest.group.name!r} has {slowest.waiting} events to handle: start its service or remove it"
        if state.dead_letter_bytes:
            text += f"; dead letters take {state.dead_letter_bytes} of them: requeue or drop them"
        return JournalFull(text)

    # --- from time to time ----------------------------------------------------------------------------------------------

    def sweep(self) -> bool:
        """Delete events that are too old. Returns whether there are more to delete."""
        now = self._state.clock()
        for group_state in self._state.groups.values():
            if group_state.expires(now):
                self._expire(group_state, now)
        return self._sweep_blocks(now)

    def _sweep_blocks(self, now: float) -> bool:
        floor, bounds = self.floor(), self._bounds
        too_old = now - bounds.max_age if bounds.max_age is not None else float("-inf")
        going = []
        for row in self._state.store.rows(limit=_BLOCKS_AT_A_TIME):
            if row.at >= too_old and (row.at >= now - bounds.retention or row.last > floor):
                break
            going.append(row)
        self._drop(going, "age")
        return len(going) == _BLOCKS_AT_A_TIME

    def floor(self) -> int:
        """The seq up to which all groups have handled the events."""
        cursors = [group_state.acked.cursor for group_state in self._state.groups.values() if not group_state.has_expired]
        return min(cursors, default=self._state.last_seq)

    def _proven_floor(self) -> int:
        """As `floor`, leaving out groups that have no member now and of which no member has ever answered."""
        now = self._state.clock()
        groups = [group_state for group_state in self._state.groups.values() if not group_state.has_expired]
        cursors = [group_state.acked.cursor for group_state in groups if group_state.may_be_refused_for(now)]
        return min(cursors, default=self._state.last_seq)

    def _expire(self, group_state: GroupState, now: float) -> None:
        state, waiting, middle = self._state, group_state.waiting, group_state.fetched_to
        for row in state.store.rows(group_state.acked.cursor):
            if row.first > middle:
                break
            self._lose(group_state, row, "expired")
        if group_state.waiting:
            first = max(middle, group_state.acked.cursor) + 1
            group_state.lose(LostRange(first, state.last_seq, group_state.waiting, "expired"))
        group_state.has_expired = True
        group_state.is_dirty = True
        self._on_notice(Expired(group_state.group.name, now - group_state.seen_at, waiting))

    # --- dropping -------------------------------------------------------------------------------------------------------

    def _drop(self, rows: list[Row], reason: str) -> None:
        if not rows:
            return
        state = self._state
        to_seq = rows[-1].last
        for group_state in state.groups.values():
            if group_state.acked.cursor < to_seq:
                for row in rows:
                    self._lose(group_state, row, reason)
                group_state.settle(to_seq)
        with state.store.transaction():
            state.write_all()
            state.store.delete_blocks(to_seq)
            if to_seq == state.last_seq:
                # The file has no other trace of them.
                state.store.set_note("last seq", str(to_seq))
        state.first_seq = to_seq + 1
        state.block_bytes -= sum(row.size for row in rows)
        state.block_cache.forget(to_seq)

    def _lose(self, group_state: GroupState, row: Row, reason: str) -> None:
        # In two parts, because events in flight may still be handled. Their loss is reported only if the process ends before
        # that.
        middle = group_state.fetched_to
        for low, high in ((0, middle), (middle + 1, 1 << 62)):
            events, first, last = self._state.unhandled(group_state, row, low, high)
            if events:
                group_state.lose(gap := LostRange(first, last, events, reason))
                if low and reason != "expired":
                    self._note(group_state.group.name, gap)

    def _note(self, name: str, gap: LostRange) -> None:
        before = self._news.get((name, gap.reason), gap._replace(events=0))
        self._news[name, gap.reason] = before._replace(to_seq=gap.to_seq, events=before.events + gap.events)

    def report_losses(self) -> None:
        """Send notices of the events deleted since the last notices, once a second at most."""
        news, self._news = self._news, {}
        for (name, _), gap in news.items():
            self._on_notice(Dropped(name, gap))
