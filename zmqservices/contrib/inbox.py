"""Events that take effect once: a handler records in its own transaction that it has handled the event.

    class Mails:
        name = "mails"
        db = Database(Base)
        inbox = Inbox(Base)

        @event_handler("orders", "order.paid")
        def note(self, payload):
            with self.db.get_session() as session:
                if self.inbox.is_new(session):
                    session.add(Mail(order=payload["number"]))

The record and the effect are committed together or not at all. Needs SQLAlchemy 2 (the extra `sqlalchemy`), and SQLite or
PostgreSQL.
"""

from __future__ import annotations

import hashlib
from time import time
from typing import Any

from zmqservices.contrib.sqlalchemy import DeclarativeClass, sql
from zmqservices.contrib.tables import Executor, inbox_table, insert_if_absent, older
from zmqservices.extensions import DependencyProvider
from zmqservices.worker_context import WorkerContext

__all__ = ["Inbox", "Notes", "inbox_table"]

#: The most characters of a group's name that are stored. In a longer name a hash replaces the rest.
LONGEST_GROUP = 255


class Notes:
    """The inbox of one worker, which `Inbox` injects."""

    def __init__(self, table: sql.Table, worker_ctx: WorkerContext) -> None:
        self._table = table
        self._worker_ctx = worker_ctx

    def is_new(self, session: Executor, id: str | None = None) -> bool:
        """Whether the event is new. If it is, the session's transaction records that the event is handled.

        On False, a committed transaction has handled the event: return without the effect. While another transaction handles the
        same event, PostgreSQL waits for its end; SQLite lets only one transaction write at a time anyway. With an `id` of your
        own the same holds for anything that the id stands for, and the worker need not handle an event. A best-effort event
        comes at most once and is always new.

        Raises RuntimeError if the worker handles no event and no `id` is given.
        """
        name = id if id is not None else self._event().id
        if name is None:
            return True
        return insert_if_absent(session, self._table, {"group_name": self._group(), "event_id": name, "at": time()})

    def prune(self, session: Executor, older_than: float) -> int:
        """Forget all events, of every handler, that were handled more than `older_than` seconds ago. Returns their number.

        A forgotten event counts as new if it is delivered again, so keep events for longer than any of them may wait.
        """
        removed: Any = session.execute(older(self._table, time() - older_than))
        return int(removed.rowcount)

    def _event(self) -> Any:
        if self._worker_ctx.event is None:
            raise RuntimeError(f"{self._worker_ctx.call_id} handles no event; give is_new() the id of what it handles")
        return self._worker_ctx.event

    def _group(self) -> str:
        entrypoint = self._worker_ctx.entrypoint
        wanted = getattr(entrypoint, "subscription", None)
        group = wanted.group if wanted is not None else f"{self._worker_ctx.service_name}.{entrypoint.method_name}"
        return group if len(group) <= LONGEST_GROUP else hashlib.sha256(group.encode()).hexdigest()


class Inbox(DependencyProvider):
    """Injects `Notes`. Its table, `zmqservices_inbox`, is part of the base's metadata, to be created with the other tables."""

    def __init__(self, declarative_base: DeclarativeClass) -> None:
        super().__init__()
        self.table = inbox_table(declarative_base.metadata)

    def get_dependency(self, worker_ctx: WorkerContext) -> Notes:
        return Notes(self.table, worker_ctx)
