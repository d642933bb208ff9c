"""The tables of the outbox and the inbox, and what is asked of them: SQL for SQLite and PostgreSQL, without any waiting.

Internal. `zmqservices.contrib.outbox` and `zmqservices.contrib.inbox` are public.

A row of the outbox belongs to the process that recorded it, `owner`, up to the time `until`. After that whoever comes first
may have it. So each process relays what it recorded, in order, and what a process leaves behind is taken up by another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from zmqservices.contrib.sqlalchemy import AnySession, postgresql, scoped_session, sql, sqlite
from zmqservices.exceptions import ConfigurationError

#: A session, or a Core connection: whatever runs statements in a transaction.
Executor: TypeAlias = "AnySession | scoped_session[Any] | sql.Connection"

OUTBOX = "zmqservices_outbox"
INBOX = "zmqservices_inbox"

#: How a database is asked to insert a row unless it is there.
_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def outbox_table(metadata: sql.MetaData) -> sql.Table:
    """The table of the outbox as part of `metadata`, for `create_all` and migrations. The second time, the same."""
    if OUTBOX in metadata.tables:
        return metadata.tables[OUTBOX]
    return sql.Table(
        OUTBOX,
        metadata,
        # SQLite numbers rows by itself only where the key is its INTEGER.
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sql.Column("outbox_id", sql.String(32), nullable=False, unique=True),
        sql.Column("source", sql.String(255), nullable=False),
        sql.Column("type", sql.Text, nullable=False),
        sql.Column("body", sql.LargeBinary, nullable=False),
        # msgpack of the headers and the name of the body's serializer.
        sql.Column("headers", sql.LargeBinary, nullable=False),
        sql.Column("key", sql.Text),
        sql.Column("recorded_at", sql.Double, nullable=False),
        sql.Column("owner", sql.String(32), nullable=False),
        sql.Column("until", sql.Double, nullable=False),
        # Why it cannot be dispatched, ever; then it is left alone.
        sql.Column("error", sql.Text),
    )


def inbox_table(metadata: sql.MetaData) -> sql.Table:
    """The table of the inbox, likewise."""
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
    """What says that a row is for `owner` to relay now."""
    mine = sql.or_(table.c.owner == owner, table.c.until < now)
    return sql.and_(table.c.source == source, table.c.error.is_(None), mine)


def take(
    connection: sql.Connection, table: sql.Table, source: str, owner: str, now: float, until: float, limit: int
) -> Sequence[Any]:
    """The next rows to relay, oldest first, which are `owner`'s until then. The caller commits.

    Nothing is written when they are so for long enough already: at least until half of that time.
    """
    is_due = due(table, source, owner, now)
    rows = connection.execute(sql.select(table).where(is_due).order_by(table.c.id).limit(limit)).all()
    if all(row.owner == owner and row.until > (now + until) / 2 for row in rows):
        return rows
    ids = [row.id for row in rows]
    # Another process may be at the same rows: what it has locked is its own. (SQLite knows no locks of rows, and lets one
    # process write at a time; the condition is looked at again then.)
    free = sql.select(table.c.id).where(table.c.id.in_(ids), is_due).with_for_update(skip_locked=True)
    ids = list(connection.execute(free).scalars())
    connection.execute(sql.update(table).where(table.c.id.in_(ids), is_due).values(owner=owner, until=until))
    taken = sql.select(table).where(table.c.id.in_(ids), table.c.owner == owner).order_by(table.c.id)
    return connection.execute(taken).all()


def remove(table: sql.Table, ids: list[int]) -> Any:
    """They are relayed."""
    return sql.delete(table).where(table.c.id.in_(ids))


def give_up(table: sql.Table, id: int, error: str) -> Any:
    """It cannot be relayed, whoever tries."""
    return sql.update(table).where(table.c.id == id).values(error=error)


# --- the inbox -------------------------------------------------------------------------------------------------------


def insert_if_absent(session: Executor, table: sql.Table, row: dict[str, Any]) -> bool:
    """Whether the row is new, and in the table now. Neither a savepoint nor an error: the transaction goes on."""
    # A connection has a dialect itself.
    dialect = (session if hasattr(session, "dialect") else session.get_bind(clause=table)).dialect.name
    insert = _INSERTS.get(dialect)
    if insert is None:
        raise ConfigurationError(f"the inbox is in a database of {dialect!r}; {' or '.join(_INSERTS)} is needed")
    # Asked for by RETURNING: psycopg's count of rows is not kept for an INSERT.
    new = insert(table).values(**row).on_conflict_do_nothing().returning(table.c.event_id)
    return session.execute(new).first() is not None


def older(table: sql.Table, at: float) -> Any:
    """Rows from before `at` are not needed any more."""
    return sql.delete(table).where(table.c.at < at)
