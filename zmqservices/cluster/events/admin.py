"""The methods for operators of a source, in the service `events:SOURCE`: statistics, dead letters, rewind, removal of groups.

The service is served and called like the user's services. `zmqservices events` calls it at every publisher of the source.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

from zmqservices.cluster.events.served_journal import ServedJournal
from zmqservices.cluster.events.source import Source
from zmqservices.cluster.events.subscription import publishing
from zmqservices.cluster.operators import OperatorMethods
from zmqservices.exceptions import BadRequest
from zmqservices.journal import DeadLetter, GroupStats
from zmqservices.wire import codec

#: The most dead letters in one answer.
MOST_DEAD_LETTERS = 1000


class Admin(OperatorMethods):
    """The methods of one source; each call runs in a greenlet, started by `spawn`."""

    METHODS = ("stats", "dead_letters", "requeue", "drop", "forget", "rewind")

    def __init__(self, source: Source, node: str, spawn: Callable[[Callable[[], None]], None]) -> None:
        super().__init__(publishing(source.name), spawn)
        self._source = source
        self._node = node

    # --- the methods -------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """The journals, groups and members of this publisher, with counts and ages."""
        source = self._source
        return {
            "source": source.name,
            "node": self._node,
            "host": platform.node(),
            "pid": os.getpid(),
            "dispatched": source.dispatching.dispatched,
            "dropped": source.best_effort.dropped,
            "journals": [self._journal(served) for served in source.journals.all],
            "best_effort": [
                {
                    "group": name,
                    "pattern": consumer_group.group.pattern,
                    "kind": consumer_group.kind,
                    "members": len(consumer_group.members),
                }
                for name, consumer_group in sorted(source.best_effort.consumer_groups.items())
            ],
        }

    def _journal(self, served: ServedJournal) -> dict[str, Any]:
        stats = served.journal.stats()
        return {
            "id": served.journal.id,
            "path": str(served.journal.path),
            "own": served is self._source.journals.own,
            "events": stats.events,
            "bytes": stats.bytes,
            "max_bytes": stats.max_bytes,
            "first_seq": stats.first_seq,
            "last_seq": stats.last_seq,
            "dead_letters": stats.dead_letters,
            "blocked": stats.blocked,
            "trouble": stats.trouble,
            "groups": [self._group(served, name, stats.groups[name]) for name in sorted(stats.groups)],
        }

    def _group(self, served: ServedJournal, name: str, stats: GroupStats) -> dict[str, Any]:
        delivery = served.deliveries.get(name)
        return {
            "group": name,
            "pattern": stats.group.pattern,
            "kind": stats.group.details.get("kind", ""),
            "cursor": stats.cursor,
            "waiting": stats.waiting,
            "oldest_age": stats.oldest_age,
            "dead_letters": stats.dead_letters,
            "lost": stats.lost,
            "idle": stats.idle,
            "has_expired": stats.has_expired,
            "members": [] if delivery is None else delivery.rules.members(),
            "in_flight": 0 if delivery is None else delivery.rules.in_flight,
        }

    def dead_letters(self, group: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The dead letters of the group (of all groups if none is named), each with its last error."""
        found = []
        for served in self._source.journals.all:
            dead_letters = served.ask(served.journal.dead_letters, group, min(limit, MOST_DEAD_LETTERS))
            found += [self._dead_letter(served, name, dead_letter) for name, dead_letter in dead_letters]
        return found[:limit]

    @staticmethod
    def _dead_letter(served: ServedJournal, group: str, dead_letter: DeadLetter) -> dict[str, Any]:
        event = dead_letter.event
        headers, serializer = codec.unpack(event.headers) if event.headers else (None, "msgpack")
        return {
            "journal": served.journal.id,
            "group": group,
            "seq": event.seq,
            "type": event.type,
            "key": event.key,
            "at": event.at,
            "data": codec.unpack(event.body) if serializer == "msgpack" else event.body,
            "serializer": serializer,
            "headers": headers,
            "attempts": dead_letter.attempts,
            "error": dead_letter.error,
            "buried_at": dead_letter.buried_at,
        }

    def requeue(self, group: str, seqs: list[int] | None = None, journal: str | None = None) -> int:
        """Deliver dead letters of the group again: all, or those in `seqs`. Returns their number."""
        count = 0
        for served in self._served_journals(group, journal):
            events = served.ask(served.journal.requeue, group, seqs)
            if events and group in served.deliveries:
                served.deliveries[group].requeued(events)
            count += len(events)
        return count

    def drop(self, group: str, seqs: list[int] | None = None, journal: str | None = None) -> int:
        """Delete dead letters of the group: all, or those in `seqs`. Returns their number."""
        return sum(served.ask(served.journal.drop, group, seqs) for served in self._served_journals(group, journal))

    def forget(self, group: str) -> bool:
        """Stop keeping events for the group, and delete its waiting events. Returns False for an unknown group."""
        return self._source.remove_group(group)

    def rewind(
        self, group: str, to_time: float | None = None, to_seq: int | None = None, journal: str | None = None
    ) -> dict[str, int]:
        """Deliver kept events again: those since `to_time` (seconds since 1970), or after `to_seq` of each journal.

        Returns the group's cursor in each journal.
        """
        if (to_time is None) == (to_seq is None):
            raise BadRequest("rewind takes either to_time or to_seq")
        cursors = {}
        for served in self._served_journals(group, journal):
            cursor = served.ask(served.journal.rewind, group, to_seq=to_seq, to_time=to_time)
            if group in served.deliveries:
                served.deliveries[group].rewound(cursor)
            cursors[served.journal.id] = cursor
        return cursors

    def _served_journals(self, group: str, journal: str | None) -> list[ServedJournal]:
        found = [served for served in self._source.journals.all if journal in (None, served.journal.id)]
        if not found:
            raise BadRequest(f"there is no journal {journal!r} here")
        found = [served for served in found if served.knows_group(group)]
        if not found:
            known = ", ".join(sorted(self._source.groups.by_name)) or "none"
            raise BadRequest(f"there is no group {group!r} here; there are: {known}")
        return found
