"""The dead-letter queue: events that a group gave up, with their last error, until an operator requeues or drops them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zmqservices.journal.blocks import pack_event, unpack_event
from zmqservices.journal.events import DeadLetter, StoredEvent
from zmqservices.journal.journal_state import JournalState


class DeadLetters:
    """The dead letters of one journal. Runs on the journal's thread."""

    def __init__(self, state: JournalState) -> None:
        self._state = state

    def bury(self, name: str, event: StoredEvent, error: dict[str, Any], attempts: int) -> None:
        """Make the event a dead letter, then acknowledge it. A crash in between makes a duplicate, never a loss."""
        state = self._state
        group_state = state.group_state(name)
        more_bytes, is_one_more = state.store.put_dead_letter(name, event.seq, pack_event(event), attempts, error)
        state.dead_letter_bytes += more_bytes
        group_state.dead_letters += is_one_more
        group_state.bury(event.seq)

    def listed(self, name: str | None, limit: int, after: int) -> list[tuple[str, DeadLetter]]:
        """Dead letters as (group, letter) after the seq `after`, the oldest first."""
        return [
            (group, DeadLetter(unpack_event(packed), attempts, error, buried_at))
            for group, packed, attempts, error, buried_at in self._state.store.dead_letters(name, after, limit, requeued=False)
        ]

    def requeue(self, name: str, seqs: Iterable[int] | None) -> list[StoredEvent]:
        """Mark dead letters as requeued. Returns their events, which must be delivered again."""
        group_state = self._state.group_state(name)
        events = [unpack_event(packed) for packed in self._state.store.mark_requeued(name, seqs)]
        group_state.requeued.update(event.seq for event in events)
        group_state.dead_letters -= len(events)
        return events

    def requeued(self, name: str) -> list[StoredEvent]:
        """The events of the group that were requeued and are not handled yet."""
        group_state = self._state.group_state(name)
        found = self._state.store.dead_letters(name, 0, -1, requeued=True)
        return [event for _, packed, *_ in found if (event := unpack_event(packed)).seq in group_state.requeued]

    def drop(self, name: str, seqs: Iterable[int] | None) -> int:
        """Delete dead letters. Returns how many were deleted."""
        group_state = self._state.group_state(name)
        sizes = self._state.store.delete_dead_letters(name, seqs)
        self._state.dead_letter_bytes -= sum(sizes)
        group_state.dead_letters -= len(sizes)
        return len(sizes)

    def bound(self, max_bytes: int) -> dict[str, int]:
        """Delete the oldest dead letters until all take `max_bytes` at most. Returns how many were deleted of each group."""
        state = self._state
        gone: dict[str, int] = {}
        while state.dead_letter_bytes > max_bytes and (oldest := state.store.oldest_dead_letters(1)):
            for name, seq in oldest:
                gone[name] = gone.get(name, 0) + self.drop(name, [seq])
        return gone
