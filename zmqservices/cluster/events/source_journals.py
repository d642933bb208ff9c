"""The journals that one source serves: its own and adopted orphans.

The name of an event is its origin and its seq (see `StoredEvent`). A journal has another origin each time it is opened.
"""

from __future__ import annotations

from collections.abc import Iterator

from zmqservices.cluster.events.group_delivery import GroupDelivery
from zmqservices.cluster.events.served_journal import ServedJournal


class SourceJournals:
    """The journals of one source. Runs inside the reactor; `remove_group` and `close` block the greenlet."""

    def __init__(self) -> None:
        #: The journal to which events are appended; None for a relay, and before it is opened.
        self.own: ServedJournal | None = None
        self.all: list[ServedJournal] = []
        #: The journal of each origin that was looked up.
        self._by_origin: dict[str, ServedJournal] = {}

    def add_own(self, served: ServedJournal) -> None:
        """Append events to this journal, and deliver its events."""
        self.own = served
        self.all.append(served)

    def add(self, served: ServedJournal) -> None:
        """Deliver the events of an adopted journal."""
        self.all.append(served)

    def remove(self, served: ServedJournal) -> None:
        """Deliver no more events of this journal."""
        self.all.remove(served)
        self._by_origin = {origin: other for origin, other in self._by_origin.items() if other is not served}

    def adopted(self) -> list[ServedJournal]:
        """The adopted journals."""
        return [served for served in self.all if served is not self.own]

    def find(self, origin: str, seq: int) -> ServedJournal | None:
        """The journal that has, or had, this event; None if no journal of this source had it."""
        found = self._by_origin.get(origin)
        if found is None:
            # No event of this origin was sent from here. Another process sent it, or this one before it was restarted.
            found = next((served for served in self.all if served.journal.knows(origin, seq)), None)
        return found

    def note_sent(self, origin: str, seq: int) -> None:
        """An event was sent. From now on answers to events of this origin need no search."""
        if origin not in self._by_origin:
            for served in self.all:
                if served.journal.knows(origin, seq):
                    self._by_origin[origin] = served

    def deliveries_of(self, group: str) -> Iterator[GroupDelivery]:
        """The deliveries of one group, in each journal that keeps events for it."""
        return iter([served.deliveries[group] for served in self.all if group in served.deliveries])

    def remove_group(self, name: str) -> bool:
        """Remove a group and its waiting events from all journals. Blocks the greenlet. Returns False for an unknown group."""
        were_known = [served.remove_group(name) for served in self.all]
        return any(were_known)

    @property
    def is_empty(self) -> bool:
        """Whether no event waits for any group."""
        return not any(group.waiting for served in self.all for group in served.journal.stats().groups.values())

    @property
    def in_flight(self) -> int:
        """The events that are sent and not answered."""
        return sum(served.in_flight for served in self.all)

    def is_done(self, with_members: set[str]) -> bool:
        """Whether no event waits for a group that has a connected member, or is in `with_members`."""
        return all(served.is_done(with_members) for served in self.all)

    def pause(self) -> None:
        """Send no more events. Answers still count."""
        for served in self.all:
            served.pause()

    def close(self) -> None:
        """Close all journals. Blocks the greenlet while the last answers are written."""
        for served in self.all:
            served.close()
