"""The events of a group that are in memory, and the order in which they are sent. Pure.

Rule 1: ready events are sent in the order of their seqs.
Rule 2: of the events of one key, only the first one may be in flight. So the events of a key are handled in their order.
Rule 3: an event with a key is sent to the member that is `chosen` for the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from heapq import heappop, heappush
from typing import Any

from zmqservices.journal.events import StoredEvent
from zmqservices.journal.members import Member, chosen


class State(Enum):
    """The states of a queued event."""

    READY = "ready"
    SENT = "sent"
    DELAYED = "delayed"
    GONE = "gone"


class QueuedEvent:
    """An event with its delivery state."""

    __slots__ = ("event", "size", "state", "attempts", "member", "sent_to", "error")

    def __init__(self, event: StoredEvent) -> None:
        self.event = event
        self.size = event.size
        self.state = State.READY
        self.attempts = 0
        #: The member to which it is in flight.
        self.member: str | None = None
        #: The members to which it was sent, now or before.
        self.sent_to: tuple[str, ...] = ()
        self.error: dict[str, Any] | None = None


class Key:
    """The events of one key."""

    __slots__ = ("seqs", "in_flight", "member")

    def __init__(self) -> None:
        #: A heap. The first seq is in flight, or will be sent next.
        self.seqs: list[int] = []
        self.in_flight: int | None = None
        #: The member to which the first event is offered.
        self.member: str | None = None


class DeliveryQueue:
    """The queued events of one group. Call `add` and `share`, then `take`.

    Give each taken event back with `make_ready`, `delay` or `remove`.
    """

    def __init__(self) -> None:
        self._entries: dict[int, QueuedEvent] = {}
        #: A heap of the seqs of ready events without a key. It may also hold seqs that are not ready any more.
        self._ready: list[int] = []
        self._keys: dict[str, Key] = {}
        self._members: Mapping[str, Member] = {}
        #: Bytes of the events.
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, seq: int) -> QueuedEvent | None:
        """The entry, if it is in memory."""
        return self._entries.get(seq)

    def add(self, event: StoredEvent) -> None:
        """Add an event, which is ready from now on. Adding it again has no effect."""
        if event.seq not in self._entries:
            self._entries[event.seq] = entry = QueuedEvent(event)
            self.size += entry.size
            if event.key is not None:
                heappush(self._keys.setdefault(event.key, Key()).seqs, event.seq)
            self.make_ready(entry)

    def share(self, members: Mapping[str, Member]) -> None:
        """Set the members, and spread the keys over them."""
        self._members = members
        for member in members.values():
            member.keyed.clear()
        for name, key in self._keys.items():
            key.member = None
            self._offer(name, key)

    def take(self, member: Member) -> QueuedEvent | None:
        """The next event for this member, which is in flight from now on. None if there is none."""
        free, keyed = self._first(self._ready), self._first_keyed(member)
        if keyed is not None and (free is None or keyed < free):
            heappop(member.keyed)
            entry = self._entries[keyed]
            self._keys[entry.event.key or ""].in_flight = keyed
        elif free is not None:
            heappop(self._ready)
            entry = self._entries[free]
        else:
            return None
        entry.state = State.SENT
        return entry

    def _first(self, heap: list[int]) -> int | None:
        while heap:
            entry = self._entries.get(heap[0])
            if entry is not None and entry.state is State.READY:
                return heap[0]
            heappop(heap)
        return None

    def _first_keyed(self, member: Member) -> int | None:
        while (seq := self._first(member.keyed)) is not None:
            key = self._keys[self._entries[seq].event.key or ""]
            if key.member == member.name and key.in_flight is None and key.seqs[0] == seq:
                return seq
            heappop(member.keyed)
        return None

    def make_ready(self, entry: QueuedEvent) -> None:
        """Mark the event as ready to be sent, for the first time or again."""
        entry.state = State.READY
        if entry.event.key is None:
            heappush(self._ready, entry.event.seq)
        else:
            self._next_of(entry)

    def delay(self, entry: QueuedEvent) -> None:
        """Mark the event as not to be sent before `make_ready` is called."""
        entry.state = State.DELAYED
        if entry.event.key is not None:
            self._next_of(entry)

    def remove(self, entry: QueuedEvent) -> None:
        """Remove an event that was acknowledged or given up."""
        entry.state = State.GONE
        del self._entries[entry.event.seq]
        self.size -= entry.size
        if entry.event.key is not None:
            self._next_of(entry)

    def keep_in_flight(self) -> None:
        """Remove all events that are not in flight."""
        for entry in [entry for entry in self._entries.values() if entry.state is not State.SENT]:
            self.remove(entry)

    def _next_of(self, entry: QueuedEvent) -> None:
        name = entry.event.key or ""
        key = self._keys[name]
        if key.in_flight == entry.event.seq:
            key.in_flight = None
        while key.seqs and key.seqs[0] not in self._entries:
            heappop(key.seqs)
        if key.seqs:
            self._offer(name, key)
        else:
            del self._keys[name]

    def _offer(self, name: str, key: Key) -> None:
        first = self._entries.get(key.seqs[0])
        if key.in_flight is None and self._members and first is not None and first.state is State.READY:
            if key.member is None:
                key.member = chosen(name, self._members)
            heappush(self._members[key.member].keyed, key.seqs[0])
