"""Opens a journal that may have been rewound, replaced or damaged. Each of these is reported, and none prevents the start."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from zmqservices.journal.blocks import Damaged, checksum, count_types, unpack_event, unpack_events
from zmqservices.journal.events import Notice, Reset
from zmqservices.journal.file_errors import is_damage
from zmqservices.journal.file_values import read_json, text_or_bytes
from zmqservices.journal.group_state import GroupState
from zmqservices.journal.journal_state import JournalState, standing_of
from zmqservices.journal.letter_rows import unsealed
from zmqservices.journal.slots import Slot, SlotMark
from zmqservices.journal.store import ALL_SEALED, Store

#: SQLite's errors for a file that it cannot read just now.
_NOT_NOW = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM)
#: The tables that are copied row by row into the new file. The blocks are copied after them.
_SMALL_TABLES = ("openings", "groups", "gaps", "letters")


def open_state(slot: Slot, sync: str, clock: Callable[[], float], on_notice: Callable[[Notice], None]) -> JournalState:
    """The state of the slot's journal, ready for appends. Raises sqlite3.Error, JournalError and OSError."""
    mark = slot.mark()
    try:
        store = Store(slot.path, sync)
        try:
            state = JournalState(store, clock)
        except BaseException:
            store.close()
            raise
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as exc:
        if isinstance(exc, sqlite3.Error) and not is_damage(exc):
            raise
        return repair(slot, sync, clock, on_notice)
    reset = _compare(state, mark)
    is_same = mark is not None and mark.id == store.id
    state.start(at_least=mark.seq if mark is not None and is_same else 0)
    if reset is not None:
        on_notice(reset)
    return state


def _compare(state: JournalState, mark: SlotMark | None) -> Reset | None:
    if mark is None:
        return None
    path, store = str(state.store.path), state.store
    if mark.id != store.id:
        was = "is new" if store.is_new else "is another"
        return Reset("replaced", None, f"{path} {was}; the journal that was here, {mark.id}, had {mark.seq} events")
    if mark.seq > state.last_seq:
        detail = f"{path} ends at event {state.last_seq}, but had {mark.seq}: a copy from a backup, or a power cut"
        return Reset("rewound", mark.seq - state.last_seq, detail)
    crc = store.crc_at(mark.seq)
    if crc is not None and crc != mark.crc:
        return Reset("rewound", None, f"{path} has another event {mark.seq} than the one that was written")
    return None


def repair(
    slot: Slot,
    sync: str,
    clock: Callable[[], float],
    on_notice: Callable[[Notice], None],
    groups: dict[str, GroupState] | None = None,
    last_seq: int = 0,
) -> JournalState:
    """Copy the readable parts of a damaged file into a new one. Unreadable ranges become gaps; the old file is kept beside it."""
    mark = slot.mark()
    aside = _set_aside(slot.path)
    store = Store(slot.path, sync)
    if mark is not None:
        store.set_id(mark.id)
    copied = _copy(aside, store)
    state = JournalState(store, clock, groups)
    last_seq = max(last_seq, mark.seq if mark is not None else 0, state.last_seq)
    lost = max(0, last_seq - state.first_seq + 1 - copied) if copied else None
    state.start(at_least=last_seq)
    on_notice(Reset("damaged", lost, f"{slot.path} could not be read; {copied} events of it could, and it was kept as {aside}"))
    return state


def _set_aside(path: Path) -> Path:
    aside = next(other for n in count(1) if not (other := path.with_name(f"{path.name}.damaged-{n}")).exists())
    path.rename(aside)
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists():
        wal.rename(aside.with_name(f"{aside.name}-wal"))
    return aside


def _copy(aside: Path, store: Store) -> int:
    """Copy all rows that can be read. Returns the number of copied events."""
    old = sqlite3.connect(aside, isolation_level=None)
    old.text_factory = text_or_bytes
    # With this setting SQLite also reads the rest of a file that was cut off.
    old.execute("PRAGMA writable_schema = ON")
    try:
        notes = Reading(old, "meta").rows()
        if ALL_SEALED not in {name for name, _ in notes}:
            store.may_have_unsealed()
        for table in _SMALL_TABLES:
            reading = Reading(old, table, all_sealed=store.all_sealed)
            store.carry_over(table, reading.rows())
            if table == "groups" and reading.failed:
                # The groups are lost, so each group that subscribes gets all kept events.
                store.set_note("groups were lost", "yes")
        # Read from both ends, because the damage is somewhere between.
        return sum(store.carry_over("blocks", Reading(old, "blocks", order).rows()) for order in ("ASC", "DESC"))
    finally:
        old.close()


class Reading:
    """The rows of one table of a damaged file that can be read and pass the checks."""

    def __init__(self, old: sqlite3.Connection, table: str, order: str = "", all_sealed: bool = True) -> None:
        self.failed = False
        self._check = _CHECKS[table] if all_sealed or table != "letters" else _check_letter
        self._old = old
        self._table = table
        # Columns are selected by position, since the column names in a damaged file may be wrong.
        self._sql = f"SELECT * FROM {table}" + (f" ORDER BY 1 {order}" if order else "")

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows in order, up to the first that cannot be read."""
        try:
            for row in self._old.execute(self._sql):
                try:
                    self._check(row)
                except (ValueError, TypeError, OverflowError):
                    self.failed = True
                else:
                    yield row
        except UnicodeDecodeError:  # In the name of a column.
            self.failed = True
        except sqlite3.DatabaseError as exc:
            # A locked file, for example, is not damaged. To treat it as damaged would lose its events.
            if getattr(exc, "sqlite_errorcode", None) in _NOT_NOW:
                raise
            self.failed = True


def _check_types(*types: type) -> Callable[[tuple[Any, ...]], None]:
    def check(row: tuple[Any, ...]) -> None:
        if tuple(map(type, row)) != types:
            raise Damaged("a field is of another type")

    return check


def _check_group(row: tuple[Any, ...]) -> None:
    name, declared, cursor, ranges, *rest = row
    standing_of((name, read_json(declared), cursor, read_json(ranges), *rest))


def _check_block(row: tuple[Any, ...]) -> None:
    last, first, _, _, types, before, crc, packed = row
    _check_types(int, int, float, int, str, int, int, bytes)(row)
    events = unpack_events(packed)
    if checksum(first, last, packed, before) != crc or count_types(events) != read_json(types):
        raise Damaged(f"block {last} is not what was written")


def _check_sealed_letter(row: tuple[Any, ...], all_sealed: bool = True) -> None:
    _check_types(str, int, bytes, int, int, str, float, int)(row)
    name, seq, packed, _, attempts, error, buried_at, _ = row
    unsealed(name, seq, packed, attempts, error, buried_at, all_sealed=all_sealed)
    if unpack_event(packed).seq != seq:
        raise Damaged(f"dead letter {seq} is another event")


def _check_letter(row: tuple[Any, ...]) -> None:
    _check_sealed_letter(row, all_sealed=False)


_CHECKS: dict[str, Callable[[tuple[Any, ...]], None]] = {
    "meta": _check_types(str, str),
    "openings": _check_types(str, int),
    "groups": _check_group,
    "gaps": _check_types(str, int, int, int, str),
    "letters": _check_sealed_letter,
    "blocks": _check_block,
}
