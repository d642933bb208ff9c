"""How one group stands: what it is done with, what it lost and was not told yet. Pure; the journal's thread owns it.

Rule 1: a seq that is not acknowledged and not inside a gap is still to be delivered, or does not concern the group.
Rule 2: what does not concern the group is acknowledged as it is found out, so that the cursor moves on.
"""

from __future__ import annotations

from collections.abc import Mapping

from zmqservices.journal.acknowledged import Acknowledged
from zmqservices.journal.events import Group, LostRange

#: Event types whose match is remembered; then it starts anew, for who makes up a type per event.
_REMEMBERED_TYPES = 10_000
#: Seconds after which it is written down anew that a member was seen, if nothing else is.
SEEN_INTERVAL = 30.0
#: Seconds after the last sign of a member in which a group that has never answered counts as one that will.
UNPROVEN_FOR = 120.0


class GroupState:
    """One group, as the journal's thread knows it."""

    def __init__(self, group: Group, acked: Acknowledged, seen_at: float, expired: bool = False, lost: int = 0) -> None:
        self.acked = acked
        self.gaps: list[LostRange] = []
        self.seen_at = self._noted_at = seen_at
        self.has_expired = expired
        self.lost = lost
        self.waiting = 0
        self.dead_letters = 0
        self.requeued: set[int] = set()
        #: Requeued letters that were handled since the last flush.
        self.handled_dead_letters: set[int] = set()
        #: When the first event that waits was committed.
        self.oldest_at: float | None = None
        #: Up to where events were handed out since the opening; those before may be on their way to a member.
        self.fetched_to = 0
        #: The gaps (by seq) that were handed out.
        self._handed_out: set[int] = set()
        #: A member has ever answered: the group is more than a name. Events are refused for the sake of such groups only.
        self.is_proven = False
        #: A member answered since the last flush.
        self.was_seen = False
        self.is_dirty = True
        self.declare(group)

    def declare(self, group: Group) -> None:
        """The group has a pattern, for as long as it lives, and limits, which may become others."""
        self.group = group
        self._matches = group.compiled().matches
        self._wanted: dict[str, bool] = {}
        self.is_dirty = True

    def wants(self, event_type: str) -> bool:
        """Whether events of that type concern the group."""
        wanted = self._wanted.get(event_type)
        if wanted is None:
            if len(self._wanted) >= _REMEMBERED_TYPES:
                self._wanted.clear()
            wanted = self._wanted[event_type] = self._matches(event_type)
        return wanted

    def count(self, types: Mapping[str, int]) -> int:
        """How many events of a block concern the group."""
        return sum(n for event_type, n in types.items() if self.wants(event_type))

    # --- new events -----------------------------------------------------------------------------------------------------

    def committed(self, first: int, last: int, types: Mapping[str, int]) -> None:
        """A block was appended."""
        wanted = self.count(types)
        if not wanted:
            self._pass_by(first, last)
        elif self.has_expired:
            self._lose_more(last, wanted)
        else:
            self.waiting += wanted

    def _pass_by(self, first: int, last: int) -> None:
        # Only where the cursor moves: ranges beyond it would pile up for a group that is away. Fetching finds the rest.
        if self.acked.cursor == first - 1:
            self.acked.add(first, last)
            self.is_dirty = True

    # --- what the group is done with ------------------------------------------------------------------------------------

    def acknowledge(self, seq: int) -> None:
        """The event was handled, or the gap was told. Twice does no harm."""
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
        """The event became a dead letter: the group is done with it."""
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
        # It had been handed out before it was dropped.
        self.lost = max(0, self.lost - 1)
        self.gaps[i] = gap._replace(events=gap.events - 1)
        if gap.events <= 1 and gap.to_seq not in self._handed_out:
            self._close_gap(i)

    def _close_gap(self, i: int) -> None:
        gap = self.gaps.pop(i)
        self.acked.add(gap.from_seq, gap.to_seq)

    def skip(self, first: int, last: int) -> None:
        """These do not concern the group."""
        if first <= last:
            self.acked.add(first, last)
            self.is_dirty = True

    # --- what it lost ---------------------------------------------------------------------------------------------------

    def lose(self, gap: LostRange) -> None:
        """Those events are gone. Gaps must come in order, but for ones that were found when reading."""
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
        """Nothing up to `to_seq` is there any more: what is not in a gap is done with."""
        position = self.acked.cursor
        for gap in self.gaps:
            if gap.from_seq > to_seq:
                break
            self.skip(position + 1, gap.from_seq - 1)
            position = max(position, gap.to_seq)
        self.skip(position + 1, to_seq)

    def is_lost(self, seq: int) -> bool:
        """Whether a gap says so already."""
        return any(gap.from_seq <= seq <= gap.to_seq for gap in self.gaps)

    def gaps_after(self, seq: int) -> list[LostRange]:
        """Those that one who asks for items after that seq is to be told, in order."""
        return [gap for gap in self.gaps if gap.to_seq > seq]

    def hand_out(self, gap: LostRange) -> LostRange:
        """The gap is handed out; from now on it may be acknowledged."""
        self._handed_out.add(gap.to_seq)
        return gap

    def open_ranges(self, first: int, last: int) -> list[tuple[int, int]]:
        """What is neither acknowledged nor in a gap, from `first` to `last`."""
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
        """A member is there (wall clock)."""
        self.seen_at = now
        if self.has_expired or now - self._noted_at > SEEN_INTERVAL:
            self.has_expired = False
            self._noted_at = now
            self.is_dirty = True

    def expires(self, now: float) -> bool:
        """Whether it has been away for too long, and that was not said yet."""
        limit = self.group.expires_after
        return limit is not None and not self.has_expired and now - self.seen_at > limit

    def may_be_refused_for(self, now: float) -> bool:
        """Whether what waits for it is a reason to refuse new events: a member has answered before, or is there now."""
        return self.is_proven or now - self.seen_at <= UNPROVEN_FOR

    def rewind(self, cursor: int) -> None:
        """Nothing after `cursor` counts as handled. The gaps stay as they are. `waiting` is to be counted again."""
        self.acked = Acknowledged(cursor)
        self.is_dirty = True
