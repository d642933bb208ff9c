"""Events that are dispatched if, and only if, a transaction of the application's database commits.

    class Orders:
        name = "orders"
        db = Database(Base)
        outbox = Outbox(Base)

        @rpc
        def pay(self, number):
            with self.db.get_session() as session:
                session.add(Payment(order=number))
                self.outbox(session, "order.paid", {"number": number}, key=str(number))

The event is written as a row in the same transaction. Once that commits, the event is dispatched, which writes it to the
service's journal, and the row is removed. If a process dies between these two steps, the event comes twice with the same
`outbox_id`, which `zmqservices.contrib.inbox` recognises. Needs SQLAlchemy 2 (the extra `sqlalchemy`), and SQLite or
PostgreSQL.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from time import time
from typing import Any

import gevent
from gevent.event import Event

from zmqservices import constants
from zmqservices.contrib import tables
from zmqservices.contrib.sqlalchemy import (
    DB_ENGINE_OPTIONS_KEY,
    AnySession,
    DeclarativeClass,
    EngineProvider,
    SQLAlchemyError,
    make_url,
    scoped_session,
    sql,
)
from zmqservices.contrib.tables import Executor, outbox_table
from zmqservices.events.dispatcher import check_type
from zmqservices.events.headers import WithWorkerHeaders, encoded
from zmqservices.exceptions import ConfigurationError, MessageTooLarge
from zmqservices.membership import Membership
from zmqservices.wire import codec
from zmqservices.worker_context import WorkerContext

__all__ = ["Outbox", "Recorder", "outbox_table"]

_log = logging.getLogger(__name__)

#: The most events that are relayed together, waiting for the journal once.
BATCH = 100

#: Seconds before a failed step is tried again: the first pause (short, since SQLite releases a lock soon) and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 2.0

#: A failure is logged once the pause after it has grown to this many seconds.
TOLD_PAUSE = 0.2

#: The most seconds that a stop waits for the removal of the rows of relayed events.
LAST_TRIES = 2.0


class Recorder(WithWorkerHeaders):
    """The outbox of one worker, which `Outbox` injects. Call it to record an event."""

    __slots__ = ("_outbox",)

    def __init__(self, outbox: Outbox, worker_ctx: WorkerContext) -> None:
        super().__init__(worker_ctx)
        self._outbox = outbox

    def __call__(self, session: Executor, event_type: str, event_data: object = None, key: str | None = None) -> str:
        """Record an event in the transaction of `session`, which may also be a Core connection.

        The event is dispatched if the transaction commits, and never if it does not. Returns the event's `outbox_id`. Raises
        UnserializableValueError, MessageTooLarge, and any error of the database.
        """
        check_type(event_type)
        return self._outbox.record(session, event_type, event_data, key, self._headers())

    record = __call__


class Outbox(EngineProvider):
    """Injects a `Recorder`. Its table, `zmqservices_outbox`, is part of the base's metadata, to be created with the other tables.

    The sessions must be of the base's database (`DB_URIS`). Every process relays its own events as soon as they are committed.
    If a process dies, another one relays its events `adopt_after` seconds later. Every `poll_interval` seconds each process
    looks for such events, and for its own ones that were committed over Core connections.
    """

    membership = Membership()

    def __init__(
        self,
        declarative_base: DeclarativeClass,
        *,
        adopt_after: float = 15.0,
        poll_interval: float = 1.0,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(declarative_base, engine_options=engine_options)
        for name, value in (("adopt_after", adopt_after), ("poll_interval", poll_interval)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise ConfigurationError(f"Outbox({name}={value!r}): seconds above 0 are needed")
        self.adopt_after = adopt_after
        self.poll_interval = poll_interval
        self.table = outbox_table(declarative_base.metadata)
        #: The name in the table's rows of this container in this process.
        self.owner = uuid.uuid4().hex
        self._wake = Event()
        self._stopping = Event()
        self._thread: Any = None

    # --- life cycle --------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Open the journal before calls may arrive, as an EventDispatcher does."""
        config = self.container.config
        if make_url(self._uri(config)).get_backend_name() == "sqlite":
            # SQLite would wait for a lock in C, where the greenlet that holds the lock cannot run. So it fails at once and is
            # retried.
            options = {**(config.get(DB_ENGINE_OPTIONS_KEY) or {}), **self.engine_options}
            self.engine_options["connect_args"] = {**(options.get("connect_args") or {}), "timeout": 0}
        super().setup()
        node = self.membership.join()
        self._source = node.publisher.open(self.container.service_name)
        self._reactor = node.reactor
        self.membership.before_leaving(self._finish)

    def start(self) -> None:
        """From here on committed events are relayed, including those of dead processes."""
        self._thread = self.container.spawn_managed_thread(self._run, f"outbox of {self.container.service_name}")

    def stop(self) -> None:
        """Called when all workers have ended: relay the events that they committed."""
        self._finish()
        super().stop()

    def kill(self) -> None:
        """Stop at once. Events that are not relayed stay in the table, for other processes."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.kill(block=False)
        super().kill()

    def _finish(self) -> None:
        self._stopping.set()
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    # --- recording ---------------------------------------------------------------------------------------------------

    def get_dependency(self, worker_ctx: WorkerContext) -> Recorder:
        """The worker's recorder. It takes the context's headers at this moment, as an EventDispatcher does."""
        return Recorder(self, worker_ctx)

    def record(self, session: Executor, event_type: str, event_data: object, key: str | None, headers: dict[str, Any]) -> str:
        """Record an event; see `Recorder.__call__`."""
        body, serializer = encoded(self.membership.serializer, event_data)
        raw = codec.pack(body) if serializer is None else body
        self._source.check_size(event_type, raw)
        outbox_id, now = uuid.uuid4().hex, time()
        headers = {**headers, constants.OUTBOX_ID_CONTEXT_KEY: outbox_id}
        self._source.check_headers(event_type, headers)
        row = {
            "outbox_id": outbox_id, "source": self.container.service_name, "type": event_type, "body": raw, "key": key,
            "headers": codec.pack([headers, serializer or "msgpack"]),
            "recorded_at": now, "owner": self.owner, "until": now + self.adopt_after,
        }  # fmt: skip
        session.execute(sql.insert(self.table), row)
        self._listen(session() if isinstance(session, scoped_session) else session)
        return outbox_id

    def _listen(self, session: object) -> None:
        """Wake the relay when the session commits. Registered once per session, however many events it records."""
        if isinstance(session, AnySession) and self.owner not in session.info:
            session.info[self.owner] = "is listened to"
            sql.event.listen(session, "after_commit", self._committed)

    def _committed(self, session: object) -> None:
        # Posted, because the session may be used on any thread.
        self._reactor.post(self._wake.set)

    # --- relaying: one greenlet -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            is_last = self._stopping.is_set()
            self._wake.clear()
            try:
                relayed = self._relay()
            except (SQLAlchemyError, _Refused) as exc:
                if is_last:
                    _log.warning("the outbox of %s keeps events for the next process: %s", self._source.name, exc)
                    return
                pause = self._rest(pause, exc)
                continue
            pause = FIRST_PAUSE
            if relayed < BATCH:
                if is_last:
                    return
                self._wake.wait(self.poll_interval)

    def _rest(self, pause: float, exc: Exception) -> float:
        if pause >= TOLD_PAUSE:
            _log.warning("the outbox of %s waits, and tries again in %g s: %s", self._source.name, pause, exc)
        gevent.sleep(pause) if self._stopping.is_set() else self._stopping.wait(pause)
        return min(2 * pause, LONGEST_PAUSE)

    def _relay(self) -> int:
        """Relay the next committed events. Returns how many there were."""
        now = time()
        with self._begin() as connection:
            rows = tables.take(connection, self.table, self._source.name, self.owner, now, now + self.adopt_after, BATCH)
        if not rows:
            return 0
        outcomes = self._source.dispatch_all([_packed(row) for row in rows])
        self._remove([row.id for row, outcome in zip(rows, outcomes, strict=True) if outcome is None])
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, MessageTooLarge):
                self._give_up(row, outcome)
            elif outcome is not None:
                raise _Refused(str(outcome)) from outcome
        return len(rows)

    def _begin(self) -> Any:
        if self.engine is None:
            raise _Refused("it has been stopped")
        return self.engine.begin()

    def _remove(self, ids: list[int]) -> None:
        """Remove the rows of relayed events. Tries until it succeeds, because events whose rows stay would be relayed again."""
        pause, left = FIRST_PAUSE, LAST_TRIES
        while ids:
            try:
                with self._begin() as connection:
                    connection.execute(tables.remove(self.table, ids))
                return
            except SQLAlchemyError as exc:
                if self._stopping.is_set():
                    left -= pause
                    if left < 0:
                        raise
                pause = self._rest(pause, exc)

    def _give_up(self, row: sql.Row[Any], error: Exception) -> None:
        _log.error("event %s in the outbox of %s can never be dispatched: %s", row.outbox_id, self._source.name, error)
        with self._begin() as connection:
            connection.execute(tables.give_up(self.table, row.id, str(error)))


class _Refused(Exception):
    """The journal does not accept events at this moment."""


def _packed(row: sql.Row[Any]) -> tuple[str, bytes, Any, str, str | None]:
    headers, serializer = codec.unpack(row.headers)
    return row.type, row.body, headers, serializer, row.key
