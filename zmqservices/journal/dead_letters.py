"""Dead letters: events that a group gave up, kept with the error until somebody requeues or drops them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zmqservices.journal.blocks import pack_event, unpack_event
from zmqservices.journal.events import DeadLetter, StoredEvent
from zmqservices.journal.journal_state import Ledger


class Letters:
    """Those of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def bury(self, name: str, event: StoredEvent, error: dict[str, Any], attempts: int) -> None:
        """A dead letter from now on, and then acknowledged: a crash in between makes a duplicate, never a loss."""
        ledger = self._ledger
        standing = ledger.standing(name)
        more_bytes, is_one_more = ledger.store.put_letter(name, event.seq, pack_event(event), attempts, error)
        ledger.letter_bytes += more_bytes
        standing.dead_letters += is_one_more
        standing.bury(event.seq)

    def listed(self, name: str | None, limit: int, after: int) -> list[tuple[str, DeadLetter]]:
        """(group, letter), oldest seq first."""
        return [
            (group, DeadLetter(unpack_event(packed), attempts, error, buried_at))
            for group, packed, attempts, error, buried_at in self._ledger.store.letters(name, after, limit, requeued=False)
        ]

    def requeue(self, name: str, seqs: Iterable[int] | None) -> list[StoredEvent]:
        """The events to be delivered once more."""
        standing = self._ledger.standing(name)
        events = [unpack_event(packed) for packed in self._ledger.store.mark_requeued(name, seqs)]
        standing.requeued.update(event.seq for event in events)
        standing.dead_letters -= len(events)
        return events

    def requeued(self, name: str) -> list[StoredEvent]:
        """Those that are being delivered once more."""
        standing = self._ledger.standing(name)
        found = self._ledger.store.letters(name, 0, -1, requeued=True)
        return [event for _, packed, *_ in found if (event := unpack_event(packed)).seq in standing.requeued]

    def drop(self, name: str, seqs: Iterable[int] | None) -> int:
        """How many went."""
        standing = self._ledger.standing(name)
        sizes = self._ledger.store.delete_letters(name, seqs)
        self._ledger.letter_bytes -= sum(sizes)
        standing.dead_letters -= len(sizes)
        return len(sizes)

    def bound(self, max_bytes: int) -> dict[str, int]:
        """How many of the oldest dead letters of each group went, so that all take no more than that."""
        ledger = self._ledger
        gone: dict[str, int] = {}
        while ledger.letter_bytes > max_bytes and (oldest := ledger.store.oldest_letters(1)):
            for name, seq in oldest:
                gone[name] = gone.get(name, 0) + self.drop(name, [seq])
        return gone
