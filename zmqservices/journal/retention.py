"""What goes from the journal, and when: handled events, then by its bounds those that were not; groups that stay away.

The blocks in the file are always the last ones without a hole: only the oldest ever go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zmqservices.exceptions import JournalFull
from zmqservices.journal.blocks import Row
from zmqservices.journal.events import Dropped, Expired, LostRange, Notice
from zmqservices.journal.journal_state import Ledger
from zmqservices.journal.group_state import Standing

#: Blocks that go at a time: the others who wait for the journal shall not wait for long.
_BLOCKS_AT_A_TIME = 256
#: The part of the bytes that is made free when there is no room (1/100).
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Bounds:
    """See Journal.open."""

    max_bytes: int = 1 << 30
    max_age: float | None = None
    keep: float = 3600.0
    drops_oldest: bool = False


class Retention:
    """The bounds of one ledger. `tell` hears what went unhandled."""

    def __init__(self, ledger: Ledger, bounds: Bounds, tell: Callable[[Notice], None]) -> None:
        self._ledger = ledger
        self._bounds = bounds
        self._tell = tell
        self._news: dict[tuple[str, str], LostRange] = {}

    # --- room for new events --------------------------------------------------------------------------------------------

    def room(self, wanted: int) -> int:
        """Bytes that may be appended, after what could go for `wanted` bytes has gone."""
        while self.free < wanted:
            missing = wanted - self.free
            if not (self._drop_some(missing, self.floor()) or self._drop_some(missing, self._proven_floor())):
                break
        return self.free

    @property
    def free(self) -> int:
        """Bytes that may be appended as things are."""
        return self._bounds.max_bytes - self._ledger.size

    def _drop_some(self, wanted: int, floor: int) -> bool:
        # Some more than needed, so that not every append has to drop something.
        wanted += self._bounds.max_bytes // _AT_ONCE
        limit = 1 << 62 if self._bounds.drops_oldest else floor
        going: list[Row] = []
        for row in self._ledger.store.rows(limit=_BLOCKS_AT_A_TIME):
            if wanted <= 0 or row.last > limit:
                break
            going.append(row)
            wanted -= row.size
        self._drop(going, "bytes")
        return bool(going)

    def drop_handled(self) -> bool:
        """Everything that all groups are done with goes. False if there was nothing."""
        for floor in (self.floor(), self._proven_floor()):
            going = [row for row in self._ledger.store.rows(limit=_BLOCKS_AT_A_TIME) if row.last <= floor]
            self._drop(going, "bytes")
            if going:
                return True
        return False

    def full(self) -> JournalFull:
        """The error to tell when there is no room."""
        ledger = self._ledger
        now = ledger.clock()
        reasons = [standing for standing in ledger.standings.values() if standing.may_be_refused_for(now)]
        slowest = max(reasons, key=lambda standing: standing.waiting, default=None)
        text = f"journal {str(ledger.store.path)!r} holds {ledger.size} of {self._bounds.max_bytes} bytes"
        if slowest is not None and slowest.waiting:
            text += f"; group {slowest.group.name!r} has {slowest.waiting} events to handle: start its service or remove it"
        if ledger.letter_bytes:
            text += f"; dead letters take {ledger.letter_bytes} of them: requeue or drop them"
        return JournalFull(text)

    # --- from time to time ----------------------------------------------------------------------------------------------

    def sweep(self) -> bool:
        """Drops what is old. True if there is more to do."""
        now = self._ledger.clock()
        for standing in self._ledger.standings.values():
            if standing.expires(now):
                self._expire(standing, now)
        return self._sweep_blocks(now)

    def _sweep_blocks(self, now: float) -> bool:
        floor, bounds = self.floor(), self._bounds
        too_old = now - bounds.max_age if bounds.max_age is not None else float("-inf")
        going = []
        for row in self._ledger.store.rows(limit=_BLOCKS_AT_A_TIME):
            if row.at >= too_old and (row.at >= now - bounds.keep or row.last > floor):
                break
            going.append(row)
        self._drop(going, "age")
        return len(going) == _BLOCKS_AT_A_TIME

    def floor(self) -> int:
        """The seq up to which all groups are done."""
        cursors = [standing.acked.cursor for standing in self._ledger.standings.values() if not standing.has_expired]
        return min(cursors, default=self._ledger.last_seq)

    def _proven_floor(self) -> int:
        """As `floor`, without groups that exist by name only: nobody has ever answered for them, and nobody is there."""
        now = self._ledger.clock()
        standings = [standing for standing in self._ledger.standings.values() if not standing.has_expired]
        cursors = [standing.acked.cursor for standing in standings if standing.may_be_refused_for(now)]
        return min(cursors, default=self._ledger.last_seq)

    def _expire(self, standing: Standing, now: float) -> None:
        ledger, waiting, middle = self._ledger, standing.waiting, standing.fetched_to
        for row in ledger.store.rows(standing.acked.cursor):
            if row.first > middle:
                break
            self._lose(standing, row, "expired")
        if standing.waiting:
            first = max(middle, standing.acked.cursor) + 1
            standing.lose(LostRange(first, ledger.last_seq, standing.waiting, "expired"))
        standing.has_expired = True
        standing.is_dirty = True
        self._tell(Expired(standing.group.name, now - standing.seen_at, waiting))

    # --- dropping -------------------------------------------------------------------------------------------------------

    def _drop(self, rows: list[Row], reason: str) -> None:
        if not rows:
            return
        ledger = self._ledger
        to_seq = rows[-1].last
        for standing in ledger.standings.values():
            if standing.acked.cursor < to_seq:
                for row in rows:
                    self._lose(standing, row, reason)
                standing.settle(to_seq)
        with ledger.store.transaction():
            ledger.write_all()
            ledger.store.delete_blocks(to_seq)
            if to_seq == ledger.last_seq:
                # Nothing in the file says so any more.
                ledger.store.set_note("last seq", str(to_seq))
        ledger.first_seq = to_seq + 1
        ledger.block_bytes -= sum(row.size for row in rows)
        ledger.library.forget(to_seq)

    def _lose(self, standing: Standing, row: Row, reason: str) -> None:
        # In two parts: what was handed out may still be handled, and need be told only if we end before that.
        middle = standing.fetched_to
        for low, high in ((0, middle), (middle + 1, 1 << 62)):
            events, first, last = self._ledger.unhandled(standing, row, low, high)
            if events:
                standing.lose(gap := LostRange(first, last, events, reason))
                if low and reason != "expired":
                    self._note(standing.group.name, gap)

    def _note(self, name: str, gap: LostRange) -> None:
        before = self._news.get((name, gap.reason), gap._replace(events=0))
        self._news[name, gap.reason] = before._replace(to_seq=gap.to_seq, events=before.events + gap.events)

    def tell_news(self) -> None:
        """Says what went since it was last said; once a second is often enough for a log."""
        news, self._news = self._news, {}
        for (name, _), gap in news.items():
            self._tell(Dropped(name, gap))
