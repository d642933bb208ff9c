"""The tables of the outbox and the inbox, and their SQL for SQLite and PostgreSQL. Nothing here waits.

Internal. `zmqservices.contrib.outbox` and `zmqservices.contrib.inbox` are public.

Until the time `until`, a row of the outbox belongs to `owner`, the process that recorded it. After that any process may take it.
So each process relays its own events in order, and other processes relay the events of one that died.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from zmqservices.contrib.sqlalchemy import AnySession, postgresql, scoped_session, sql, sqlite
from zmqservices.exceptions import ConfigurationError

#: A session or a Core connection: it runs statements in a transaction.
Executor: TypeAlias = "AnySession | scoped_session[Any] | sql.Connection"

OUTBOX = "zmqservices_outbox"
INBOX = "zmqservices_inbox"

#: Each database's INSERT that can leave an existing row alone.
_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def outbox_table(metadata: sql.MetaData) -> sql.Table:
    """The table of the outbox as part of `metadata`, for `create_all` and migrations. A second call returns the same table."""
    if OUTBOX in metadata.tables:
        return metadata.tables[OUTBOX]
    return sql.Table(
        OUTBOX,
        metadata,
        # SQLite numbers rows by itself only if the key is an INTEGER.
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sql.Column("outbox_id", sql.String(32), nullable=False, unique=True),
        sql.Column("source", sql.String(255), nullable=False),
        sql.Column("type", sql.Text, nullable=False),
        sql.Column("body", sql.LargeBinary, nullable=False),
        # The headers and the name of the body's serializer, as msgpack.
        sql.Column("headers", sql.LargeBinary, nullable=False),
        sql.Column("key", sql.Text),
        sql.Column("recorded_at", sql.Double, nullable=False),
        sql.Column("owner", sql.String(32), nullable=False),
        sql.Column("until", sql.Double, nullable=False),
        # Why the event can never be dispatched. A row with a reason is not relayed.
        sql.Column("error", sql.Text),
    )


def inbox_table(metadata: sql.MetaData) -> sql.Table:
    """The table of the inbox as part of `metadata`."""
    if INBOX in metadata.tables:
        return metadata.tables[INBOX]
    return sql.Table(
        INBOX,
        metadata,
        sql.Column("group_name", sql.String(255), primary_key=True),
        sql.Column("event_id", sql.String(255), primary_key=True),
        sql.Column("at", sql.Double, nullable=False, index=True),
    )


# --- the outbox ------------------------------------------------------------------------------------------------------


def due(table: sql.Table, source: str, owner: str, now: float) -> Any:
    """The condition under which `owner` may relay a row now."""
    mine = sql.or_(table.c.owner == owner, table.c.until < now)
    return sql.and_(table.c.source == source, table.c.error.is_(None), mine)


def take(
    connection: sql.Connection, table: sql.Table, source: str, owner: str, now: float, until: float, limit: int
) -> Sequence[Any]:
    """Take the next rows to relay, oldest first: they belong to `owner` until the time `until`. The caller commits.

    Nothing is written if the rows already belong to `owner` for at least half of that time.
    """
    is_due = due(table, source, owner, now)
    rows = connection.execute(sql.select(table).where(is_due).order_by(table.c.id).limit(limit)).all()
    if all(row.owner == owner and row.until > (now + until) / 2 for row in rows):
        return rows
    ids = [row.id for row in rows]
    # Another process may take the same rows at this moment, so rows that it has locked are skipped. (SQLite has no row locks
    # and lets one process write at a time; the condition is then checked again.)
    free = sql.select(table.c.id).where(table.c.id.in_(ids), is_due).with_for_update(skip_locked=True)
    ids = list(connection.execute(free).scalars())
    connection.execute(sql.update(table).where(table.c.id.in_(ids), is_due).values(owner=owner, until=until))
    taken = sql.select(table).where(table.c.id.in_(ids), table.c.owner == owner).order_by(table.c.id)
    return connection.execute(taken).all()


def remove(table: sql.Table, ids: list[int]) -> Any:
    """The statement that deletes the rows of relayed events."""
    return sql.delete(table).where(table.c.id.in_(ids))


def give_up(table: sql.Table, id: int, error: str) -> Any:
    """The statement that stores why an event can never be relayed."""
    return sql.update(table).where(table.c.id == id).values(error=error)


# --- the inbox -------------------------------------------------------------------------------------------------------


def insert_if_absent(session: Executor, table: sql.Table, row: dict[str, Any]) -> bool:
    """Insert a row unless it exists. Returns whether it was inserted; no savepoint is needed, and the transaction goes on."""
    # A connection has the dialect itself; a session has it through its bind.
    dialect = (session if hasattr(session, "dialect") else session.get_bind(clause=table)).dialect.name
    insert = _INSERTS.get(dialect)
    if insert is None:
        raise ConfigurationError(f"the inbox is in a database of {dialect!r}; {' or '.join(_INSERTS)} is needed")
    # RETURNING tells whether the row was inserted, because psycopg has no row count for an INSERT.
    new = insert(table).values(**row).on_conflict_do_nothing().returning(table.c.event_id)
    return session.execute(new).first() is not None


def older(table: sql.Table, at: float) -> Any:
    """The statement that deletes the rows that are older than the time `at`."""
    return sql.delete(table).where(table.c.at < at)
