"""The progress of one group: the events that it has handled and those that it lost. Pure; the journal's thread owns it.

Rule 1: an event that is neither acknowledged nor in a gap must still be delivered, unless the group does not subscribe to it.
Rule 2: an event that the group does not subscribe to is acknowledged as soon as that is known, so that the cursor moves on.
"""

from __future__ import annotations

from collections.abc import Mapping

from zmqservices.journal.acknowledged import Acknowledged
from zmqservices.journal.events import Group, LostRange

#: The most event types of which it is remembered whether they match. Beyond that the memory is cleared: some users make up a type
#: for each event.
_REMEMBERED_TYPES = 10_000
#: Seconds after which the time of a member's last sign of life is written again, if nothing else is written.
SEEN_INTERVAL = 30.0
#: A group that has never answered counts as alive for this many seconds after its members' last sign of life.
UNPROVEN_FOR = 120.0


class GroupState:
    """The progress of one group."""

    def __init__(self, group: Group, acked: Acknowledged, seen_at: float, expired: bool = False, lost: int = 0) -> None:
        self.acked = acked
        self.gaps: list[LostRange] = []
        self.seen_at = self._noted_at = seen_at
        self.has_expired = expired
        self.lost = lost
        self.waiting = 0
        self.dead_letters = 0
        self.requeued: set[int] = set()
        #: Requeued dead letters that were handled since the last flush.
        self.handled_dead_letters: set[int] = set()
        #: Wall-clock time at which the oldest waiting event was committed.
        self.oldest_at: float | None = None
        #: The last seq that was fetched since the opening. Events up to it may be in flight to a member.
        self.fetched_to = 0
        #: The seqs of the gaps that were handed out.
        self._handed_out: set[int] = set()
        #: Whether a member has ever answered. New events are refused only for the sake of such a group.
        self.is_proven = False
        #: Whether a member answered since the last flush.
        self.was_seen = False
        self.is_dirty = True
        self.declare(group)

    def declare(self, group: Group) -> None:
        """Set the group's limits and details. Its pattern stays the same for as long as the group lives."""
        self.group = group
        self._matches = group.compiled().matches
        self._wanted: dict[str, bool] = {}
        self.is_dirty = True

    def wants(self, event_type: str) -> bool:
        """Whether the group subscribes to this event type."""
        wanted = self._wanted.get(event_type)
        if wanted is None:
            if len(self._wanted) >= _REMEMBERED_TYPES:
                self._wanted.clear()
            wanted = self._wanted[event_type] = self._matches(event_type)
        return wanted

    def count(self, types: Mapping[str, int]) -> int:
        """How many events of a block the group subscribes to."""
        return sum(n for event_type, n in types.items() if self.wants(event_type))

    # --- new events -----------------------------------------------------------------------------------------------------

    def committed(self, first: int, last: int, types: Mapping[str, int]) -> None:
        """Count the events of a block that was appended."""
        wanted = self.count(types)
        if not wanted:
            self._pass_by(first, last)
        elif self.has_expired:
            self._lose_more(last, wanted)
        else:
            self.waiting += wanted

    def _pass_by(self, first: int, last: int) -> None:
        # Only if the cursor moves: ranges beyond the cursor of a group without members would pile up. A fetch skips the rest.
        if self.acked.cursor == first - 1:
            self.acked.add(first, last)
            self.is_dirty = True

    # --- handled events ------------------------------------------------------------------------------------

    def acknowledge(self, seq: int) -> None:
        """Mark an event as handled, or a gap as reported to the group. A second call has no effect."""
        if seq in self.requeued:
            self.requeued.discard(seq)
            self.handled_dead_letters.add(seq)
        elif seq in self._handed_out:
            self._handed_out.discard(seq)
            self._close_gap(next(i for i, gap in enumerate(self.gaps) if gap.to_seq == seq))
        elif seq not in self.acked:
            self._handled(seq)
        self.is_dirty = True

    def bury(self, seq: int) -> None:
        """Mark an event that became a dead letter as handled."""
        self.handled_dead_letters.discard(seq)
        self.is_proven = True
        if seq in self.requeued:
            self.requeued.discard(seq)
        elif seq not in self.acked:
            self._handled(seq)
        self.is_dirty = True

    def _handled(self, seq: int) -> None:
        self.acked.add(seq, seq)
        for i, gap in enumerate(self.gaps):
            if gap.from_seq <= seq <= gap.to_seq:
                self._found_again(i, gap)
                return
        self.waiting = max(0, self.waiting - 1)

    def _found_again(self, i: int, gap: LostRange) -> None:
        # The event was in flight when it was dropped, and a member has handled it after all.
        self.lost = max(0, self.lost - 1)
        self.gaps[i] = gap._replace(events=gap.events - 1)
        if gap.events <= 1 and gap.to_seq not in self._handed_out:
            self._close_gap(i)

    def _close_gap(self, i: int) -> None:
        gap = self.gaps.pop(i)
        self.acked.add(gap.from_seq, gap.to_seq)

    def skip(self, first: int, last: int) -> None:
        """Mark events that the group's pattern does not match as handled."""
        if first <= last:
            self.acked.add(first, last)
            self.is_dirty = True

    # --- lost events ---------------------------------------------------------------------------------------------------

    def lose(self, gap: LostRange) -> None:
        """Record that events are lost. Gaps are recorded in order, except for those found while reading."""
        self.lost += gap.events
        self.waiting = max(0, self.waiting - gap.events)
        self.is_dirty = True
        i = len(self.gaps)
        while i and self.gaps[i - 1].from_seq > gap.from_seq:
            i -= 1
        before = self.gaps[i - 1] if i else None
        if before is not None and self._may_grow(before, gap):
            self.gaps[i - 1] = before._replace(to_seq=max(before.to_seq, gap.to_seq), events=before.events + gap.events)
        else:
            self.gaps.insert(i, gap)

    def _may_grow(self, before: LostRange, gap: LostRange) -> bool:
        same_side = (before.to_seq <= self.fetched_to) == (gap.to_seq <= self.fetched_to)
        in_a_row = before.reason == gap.reason and before.reason in ("bytes", "age", "expired")
        return same_side and in_a_row and before.to_seq not in self._handed_out

    def _lose_more(self, last: int, events: int) -> None:
        gap = LostRange(max(self.gaps[-1].to_seq if self.gaps else 0, self.acked.cursor) + 1, last, events, "expired")
        self.waiting += events
        self.lose(gap)

    def settle(self, to_seq: int) -> None:
        """Mark everything up to `to_seq` except the gaps as handled, because the journal no longer has it."""
        position = self.acked.cursor
        for gap in self.gaps:
            if gap.from_seq > to_seq:
                break
            self.skip(position + 1, gap.from_seq - 1)
            position = max(position, gap.to_seq)
        self.skip(position + 1, to_seq)

    def is_lost(self, seq: int) -> bool:
        """Whether the event is in a gap."""
        return any(gap.from_seq <= seq <= gap.to_seq for gap in self.gaps)

    def gaps_after(self, seq: int) -> list[LostRange]:
        """The gaps that a fetch after `seq` returns, in order."""
        return [gap for gap in self.gaps if gap.to_seq > seq]

    def hand_out(self, gap: LostRange) -> LostRange:
        """Hand out a gap. From now on it may be acknowledged."""
        self._handed_out.add(gap.to_seq)
        return gap

    def open_ranges(self, first: int, last: int) -> list[tuple[int, int]]:
        """The ranges from `first` to `last` that are neither acknowledged nor in a gap."""
        gaps = [(gap.from_seq, gap.to_seq) for gap in self.gaps]
        position, found = max(first, self.acked.cursor + 1), []
        for low, high in sorted([*self.acked.ranges(), *gaps]):
            if low > last:
                break
            if low > position:
                found.append((position, low - 1))
            position = max(position, high + 1)
        return [*found, (position, last)] if position <= last else found

    # --- the group itself -----------------------------------------------------------------------------------------------

    def seen(self, now: float) -> None:
        """Note a sign of life of a member. `now` is the wall clock's."""
        self.seen_at = now
        if self.has_expired or now - self._noted_at > SEEN_INTERVAL:
            self.has_expired = False
            self._noted_at = now
            self.is_dirty = True

    def expires(self, now: float) -> bool:
        """Whether the group has had no member for too long, and is not marked as expired yet."""
        limit = self.group.expires_after
        return limit is not None and not self.has_expired and now - self.seen_at > limit

    def may_be_refused_for(self, now: float) -> bool:
        """Whether new events may be refused because events wait for the group: a member has answered, or is connected now."""
        return self.is_proven or now - self.seen_at <= UNPROVEN_FOR

    def rewind(self, cursor: int) -> None:
        """Mark all events after `cursor` as not handled. The gaps stay. The caller must count `waiting` again."""
        self.acked = Acknowledged(cursor)
        self.is_dirty = True
