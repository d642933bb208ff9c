"""What operators may ask of a source: a service beside those of users, called `events:SOURCE`, on the same door.

Its methods are called as any other; `zmqservices events` asks every publisher of the source.
"""

from __future__ import annotations

import inspect
import logging
import os
import platform
from typing import Any

from zmqservices.exceptions import BadRequest, IncorrectSignature, JournalError, no_such_method, serialize
from zmqservices.wire import codec

_log = logging.getLogger(__name__)

#: Dead letters of one answer.
LETTERS = 1000


class Admin:
    """The methods are those without an underscore that take no call; each runs in a greenlet of its own."""

    METHODS = ("stats", "dead_letters", "requeue", "drop", "forget", "rewind")

    def __init__(self, source: Any) -> None:
        self._source = source

    # --- the desk's service ------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"signature": str(inspect.signature(getattr(self, name))), "doc": inspect.getdoc(getattr(self, name))}
            for name in self.METHODS
        }

    def take(self, call: Any) -> None:
        if call.method not in self.METHODS:
            call.fail(serialize(no_such_method(f"events:{self._source.name}", call.method, self.METHODS)))
        else:
            self._source.publisher.spawn(lambda: self._answer(call))

    def flush(self) -> None:
        """Calls have begun already."""

    def cancel(self, call: Any, why: str) -> None:
        """None takes long."""

    def _answer(self, call: Any) -> None:
        try:
            args, kwargs = call.args, call.kwargs or {}
            if call.serializer is not None:
                raise BadRequest("events are administered in the wire's own format; leave `serializer` out")
            method = getattr(self, call.method)
            try:
                inspect.signature(method).bind(*args, **kwargs)
            except TypeError as exc:
                raise IncorrectSignature(str(exc)) from exc
            call.reply(method(*args, **kwargs))
        except Exception as exc:
            if not isinstance(exc, (BadRequest, JournalError)):
                _log.exception("events:%s.%s failed", self._source.name, call.method)
            call.fail(serialize(exc, with_traceback=True))

    # --- the methods -------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """How it stands with the journals, the groups and the members."""
        source = self._source
        return {
            "source": source.name,
            "node": source.publisher.id,
            "host": platform.node(),
            "pid": os.getpid(),
            "dispatched": source.dispatched,
            "dropped": source.best_effort.dropped,
            "journals": [self._journal(served) for served in source.served_journals],
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

    def _journal(self, served: Any) -> dict[str, Any]:
        stats = served.journal.stats()
        return {
            "id": served.journal.id,
            "path": str(served.journal.path),
            "own": served is self._source.own,
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

    def _group(self, served: Any, name: str, stats: Any) -> dict[str, Any]:
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
        """The events that were given up, with the last error of each; of all groups when none is named."""
        found = []
        for served in self._source.served_journals:
            letters = served.ask(served.journal.dead_letters, group, min(limit, LETTERS))
            found += [self._letter(served, name, letter) for name, letter in letters]
        return found[:limit]

    @staticmethod
    def _letter(served: Any, group: str, letter: Any) -> dict[str, Any]:
        event = letter.event
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
            "attempts": letter.attempts,
            "error": letter.error,
            "buried_at": letter.buried_at,
        }

    def requeue(self, group: str, seqs: list[int] | None = None, journal: str | None = None) -> int:
        """Deliver dead letters of the group once more, all of them when none is named; says how many."""
        count = 0
        for served in self._served_journals(group, journal):
            events = served.ask(served.journal.requeue, group, seqs)
            if events and group in served.deliveries:
                served.deliveries[group].requeued(events)
            count += len(events)
        return count

    def drop(self, group: str, seqs: list[int] | None = None, journal: str | None = None) -> int:
        """Throw dead letters of the group away, all of them when none is named; says how many."""
        return sum(served.ask(served.journal.drop, group, seqs) for served in self._served_journals(group, journal))

    def forget(self, group: str) -> bool:
        """Keep nothing for the group any more, and throw away what waits for it. False when it is not known."""
        return bool(self._source.forget(group))

    def rewind(
        self, group: str, to_time: float | None = None, to_seq: int | None = None, journal: str | None = None
    ) -> dict[str, int]:
        """Deliver again what was dispatched since `to_time` (seconds since 1970), or after `to_seq` of each journal.

        As far as it is kept. Says where the group stands in each journal now.
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

    def _served_journals(self, group: str, journal: str | None) -> list[Any]:
        found = [served for served in self._source.served_journals if journal in (None, served.journal.id)]
        if not found:
            raise BadRequest(f"there is no journal {journal!r} here")
        found = [served for served in found if served.knows_group(group)]
        if not found:
            known = ", ".join(sorted(self._source.consumer_groups())) or "none"
            raise BadRequest(f"there is no group {group!r} here; there are: {known}")
        return found
