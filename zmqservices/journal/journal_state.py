"""The state of a journal: appends events, reads them for each group, and acknowledges them. Only the journal's thread uses it.

Every method may raise sqlite3.Error or JournalError. It then makes no change that the file did not take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any
from uuid import uuid4

from zmqservices.exceptions import GroupConflict, JournalError
from zmqservices.journal.acknowledged import Acknowledged
from zmqservices.journal.block_cache import BlockCache
from zmqservices.journal.blocks import OVERHEAD, Block, Damaged, Row, checksum, count_types, pack_events
from zmqservices.journal.events import Group, LostRange, NewEvent, Page
from zmqservices.journal.group_state import GroupState
from zmqservices.journal.paging import Paging, look
from zmqservices.journal.store import Store

#: The name of `GroupState.is_proven` in the row of a group.
IS_PROVEN = "is_proven"


def standing_of(row: tuple[Any, ...]) -> GroupState:
    """The state of the group in a row of the file (see `Store.groups`). Raises Damaged for a row that is not valid."""
    name, declared, cursor, ranges, seen_at, expired, lost = row
    if (
        type(name) is not str
        or not type(cursor) is type(expired) is type(lost) is int
        or type(seen_at) is not float
        or type(ranges) is not list
        or type(declared) is not dict
        or not all(type(pair) is list and [type(seq) for seq in pair] == [int, int] for pair in ranges)
    ):
        raise Damaged(f"the row of group {name!r:.200} is malformed")
    try:
        fields = {key: value for key, value in declared.items() if key != IS_PROVEN}
        group = Group(name=name, **fields)
        group_state = GroupState(group, Acknowledged(cursor, ranges), seen_at, bool(expired), lost)
    except (TypeError, AttributeError) as exc:
        raise Damaged(f"group {name!r:.200} is not what was written: {exc}") from exc
    if type(group.max_deliveries) is not int or type(group.expires_after) not in (float, int, type(None)):
        raise Damaged(f"the limits of group {name!r:.200} are malformed")
    # Files of older releases lack this field.
    group_state.is_proven = bool(declared.get(IS_PROVEN, True))
    return group_state


class JournalState:
    """The state of the journal in `store`. `clock` is the wall clock."""

    def __init__(self, store: Store, clock: Callable[[], float], groups: dict[str, GroupState] | None = None) -> None:
        """`groups`: the states of the groups, if memory has newer ones than the file."""
        self.store = store
        self.clock = clock
        self.origin = uuid4().hex
        self.first_seq = 1
        self.last_seq = 0
        self.block_bytes = 0
        self.dead_letter_bytes = 0
        self.groups = self._read_groups() if groups is None else groups
        self.block_cache = BlockCache(store, self._damaged)
        self._openings: list[tuple[int, str]] = []
        self._is_on_disk = False
        self._crc = 0
        self._read_all()

    @property
    def size(self) -> int:
        """Bytes that count against `max_bytes`: events and dead letters."""
        return self.block_bytes + self.dead_letter_bytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to deliver: no events, no dead letters, no gaps."""
        return not self.size and not any(group_state.gaps for group_state in self.groups.values())

    @property
    def crc(self) -> int:
        """The checksum of the last block, which covers all blocks before it as well."""
        return self._crc

    # --- opening --------------------------------------------------------------------------------------------------------

    def _read_all(self) -> None:
        self._openings = self.store.openings()
        self._crc = self.store.last_crc()
        for name, dead, _, size in self.store.dead_letter_sizes():
            self.dead_letter_bytes += size
            if name in self.groups:
                self.groups[name].dead_letters = dead
        self._read_rows()
        for group_state in self.groups.values():
            self.recount(group_state)

    def _read_groups(self) -> dict[str, GroupState]:
        groups = {}
        for row in self.store.groups():
            group_state, name = standing_of(row), row[0]
            group_state.gaps = self.store.gaps(name)
            group_state.requeued = self.store.requeued_seqs(name)
            groups[name] = group_state
        return groups

    def _read_rows(self) -> None:
        previous = None
        for row in self.store.rows():
            if previous is None:
                self.first_seq = row.first
            elif row.first != previous + 1:
                self.hole(previous + 1, row.first - 1)
            previous = self.last_seq = row.last
            self.block_bytes += row.size
        if previous is None:
            # All events were handled and deleted, or there never were any.
            self.last_seq = self._last_known()
            self.first_seq = self.last_seq + 1

    def _last_known(self) -> int:
        known = [int(self.store.note("last seq") or 0)]
        for group_state in self.groups.values():
            known += [group_state.acked.cursor, *(gap.to_seq for gap in group_state.gaps)]
        return max(known, default=0)

    def start(self, at_least: int = 0) -> None:
        """Prepare for appends: the next seq is greater than `at_least`."""
        if at_least > self.last_seq:
            missing = (self.last_seq + 1, at_least)
            if self.first_seq > self.last_seq:
                self.first_seq = at_least + 1
            self.last_seq = at_least
            self.hole(*missing)
        self._openings.append((self.last_seq + 1, self.origin))

    def hole(self, first: int, last: int) -> None:
        """Record events that the file lacks. Their types are not known: every group that has not handled them gets a gap."""
        for group_state in self.groups.values():
            for low, high in group_state.open_ranges(first, last):
                events = high - low + 1
                group_state.waiting += events  # They were not counted before.
                group_state.lose(LostRange(low, high, events, "missing"))

    def _damaged(self, first: int) -> None:
        for row in self.store.rows(first - 1, 1):
            for group_state in self.groups.values():
                events = group_state.count(row.types)
                for low, high in group_state.open_ranges(row.first, row.last):
                    if events:
                        group_state.lose(LostRange(low, high, min(events, high - low + 1), "damaged"))
                    else:
                        group_state.skip(low, high)

    def knows(self, origin: str, seq: int) -> bool:
        """Whether the opening `origin` appended the event `seq`, as far as this file knows."""
        for (first, name), (end, _) in pairwise([*self._openings, (self.last_seq + 1, "")]):
            if name == origin:
                return first <= seq < end
        return False

    # --- appending ------------------------------------------------------------------------------------------------------

    def commit(self, events: Sequence[NewEvent]) -> int:
        """Append events, which are on disk when this returns. Returns the seq of the first event; the others follow.

        Raises TypeError for a value that cannot be stored.
        """
        packed = pack_events(events)
        first, last = self.last_seq + 1, self.last_seq + len(events)
        types = count_types(events)
        row = Row(first, last, self.clock(), len(packed) + OVERHEAD, types)
        crc = checksum(first, last, packed, self._crc)
        if not self._is_on_disk:
            # Written only now, so that a journal on a full disk can be opened and its events delivered.
            self.store.add_opening(first, self.origin)
            self._is_on_disk = True
        self.store.add_block(row, self._crc, crc, packed)
        self._crc = crc
        self.last_seq = last
        self.block_bytes += row.size
        self.block_cache.remember(Block(first, last, row.at, events), row.size)
        for group_state in self.groups.values():
            group_state.committed(first, last, types)
        return first

    # --- reading --------------------------------------------------------------------------------------------------------

    def fetch(self, name: str, after: int, limit: int, max_bytes: int) -> Page:
        """The next items of the group: see `Journal.fetch`."""
        group_state = self.group_state(name)
        blocks = self.block_cache.blocks(max(after, self.first_seq - 1))
        page = Paging(group_state, after, limit, max_bytes).page(blocks, self._origin_of, self.last_seq)
        group_state.fetched_to = max(group_state.fetched_to, page.to_seq)
        return page

    def read(self, after: int, limit: int, wants: Callable[[str], bool]) -> Page:
        """Events for a reader that is no group: see `Journal.read`."""
        return look(self.block_cache.blocks(max(after, self.first_seq - 1)), after, limit, wants, self._origin_of, self.last_seq)

    def _origin_of(self, seq: int) -> str:
        for first, origin in reversed(self._openings):
            if first <= seq:
                return origin
        # The row with the origin is lost. The event is still delivered, under a name that no other event has.
        return f"unknown-{self.store.id}"

    def recount(self, group_state: GroupState) -> None:
        """Count anew how many events wait for the group, from the file."""
        group_state.waiting = 0
        if not group_state.has_expired:
            for row in self.store.rows(group_state.acked.cursor):
                group_state.waiting += self.unhandled(group_state, row)[0]

    def unhandled(
        self, group_state: GroupState, row: Row, low: int = 0, high: int = 1 << 62
    ) -> tuple[int, int, int]:
        """(count, first, last) of the block's events from `low` to `high` that the group has not handled."""
        wanted = group_state.count(row.types)
        if not wanted or row.last < low or row.first > high:
            return 0, 0, 0
        is_whole = low <= row.first and row.last <= high and not group_state.acked.touches(row.first, row.last)
        if is_whole and not any(gap.to_seq >= row.first and gap.from_seq <= row.last for gap in group_state.gaps):
            return wanted, row.first, row.last
        seqs = [
            seq
            for block in self.block_cache.block(row.first)
            for seq, event in enumerate(block.events, block.first)
            if low <= seq <= high
            and group_state.wants(event[0])
            and seq not in group_state.acked
            and not group_state.is_lost(seq)
        ]
        return (len(seqs), seqs[0], seqs[-1]) if seqs else (0, 0, 0)

    # --- groups ---------------------------------------------------------------------------------------------------------

    def group_state(self, name: str) -> GroupState:
        """The state of the group. Raises JournalError for an unknown group."""
        try:
            return self.groups[name]
        except KeyError:
            known = ", ".join(sorted(self.groups)) or "none"
            raise JournalError(f"journal {str(self.store.path)!r} has no group {name!r}; known: {known}") from None

    def ensure(self, group: Group) -> int:
        """Keep events for the group from now on. Returns its cursor."""
        group_state = self.groups.get(group.name)
        if group_state is None:
            from_all = group.start == "earliest" or self.store.note("groups were lost") is not None
            cursor = self.first_seq - 1 if from_all else self.last_seq
            group_state = GroupState(group, Acknowledged(cursor), self.clock())
            self._put(group_state)
            self.groups[group.name] = group_state
            self.recount(group_state)
        else:
            self._declare_again(group_state, group)
        return group_state.acked.cursor

    def _declare_again(self, group_state: GroupState, group: Group) -> None:
        if group.pattern != group_state.group.pattern:
            # Events that the old pattern matches and the new one does not would count as handled.
            raise GroupConflict(
                f"journal {str(self.store.path)!r} keeps events {group_state.group.pattern!r} for group {group.name!r}, and not "
                f"{group.pattern!r}; take another name, or end it with `zmqservices events forget`"
            )
        group_state.seen(self.clock())
        if group != group_state.group or group.details != group_state.group.details:
            group_state.declare(group)
            self._put(group_state)

    def _put(self, group_state: GroupState) -> None:
        declared = asdict(group_state.group)
        del declared["name"]
        declared[IS_PROVEN] = group_state.is_proven
        acked = group_state.acked
        self.store.put_group(
            group_state.group.name, declared, acked.cursor, acked.ranges(),
            group_state.seen_at, group_state.has_expired, group_state.lost,
        )

    def remove(self, name: str) -> bool:
        """Delete a group. Returns whether it was known."""
        if name not in self.groups:
            return False
        self.dead_letter_bytes -= self.store.delete_group(name)
        del self.groups[name]
        return True

    def acknowledge(self, name: str, seq: int) -> None:
        """Mark an event as handled, in memory; `flush` writes it to the file."""
        group_state = self.groups.get(name)
        if group_state is not None and seq <= self.last_seq:
            if group_state.has_expired:
                group_state.seen(self.clock())
            group_state.acknowledge(seq)
            group_state.was_seen = group_state.is_proven = True

    def seen(self, name: str) -> None:
        """Note a sign of life of a member."""
        if name in self.groups:
            self.groups[name].seen(self.clock())

    def flush(self) -> None:
        """Write the states of the groups that changed."""
        now = self.clock()
        for group_state in self.groups.values():
            if group_state.was_seen:
                group_state.was_seen = False
                group_state.seen(now)
        if any(group_state.is_dirty for group_state in self.groups.values()):
            with self.store.transaction():
                written = self.write_all()
            for group_state in written:
                group_state.is_dirty = False
                group_state.oldest_at = None
            self.note_ages()

    def write_all(self) -> list[GroupState]:
        """Write the states of the groups that changed, in the open transaction. Returns these groups."""
        dirty = [group_state for group_state in self.groups.values() if group_state.is_dirty]
        for group_state in dirty:
            self._write(group_state)
        return dirty

    def _write(self, group_state: GroupState) -> None:
        self._put(group_state)
        self.store.put_gaps(group_state.group.name, group_state.gaps)
        if group_state.handled_dead_letters:
            deleted = self.store.delete_dead_letters(group_state.group.name, group_state.handled_dead_letters, requeued=True)
            self.dead_letter_bytes -= sum(deleted)
            group_state.handled_dead_letters.clear()

    def note_ages(self) -> None:
        """Read the age of the oldest waiting event of each group for which it is not known."""
        for group_state in self.groups.values():
            if group_state.waiting and group_state.oldest_at is None:
                group_state.oldest_at = self.store.at_of(group_state.acked.cursor + 1)

    def rewind(self, name: str, to_seq: int | None, to_time: float | None) -> int:
        """Move the group's cursor back: see `Journal.rewind`. Returns the new cursor."""
        group_state = self.group_state(name)
        if to_seq is None:
            to_seq = self.store.seq_before(to_time or 0.0)
        group_state.rewind(min(max(to_seq, self.first_seq - 1), self.last_seq))
        group_state.fetched_to = group_state.acked.cursor
        self.recount(group_state)
        self.flush()
        return group_state.acked.cursor

