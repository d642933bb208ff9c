"""The file of a journal: SQLite in WAL mode. Every method blocks and may raise sqlite3.Error; one thread uses it.

The file is locked exclusively, so that SQLite keeps its index of the WAL in memory. There is no third file, and no shared memory
in which a full disk would cause a SIGBUS.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

from zmqservices.exceptions import JournalError
from zmqservices.journal.blocks import OVERHEAD, Damaged, Row
from zmqservices.journal.events import LostRange
from zmqservices.journal.file_values import read_json, read_row, text_or_bytes
from zmqservices.journal.letter_rows import sealed, unsealed
from zmqservices.journal.slots import open_private

_VERSION = 1
_SYNC = {"normal": "NORMAL", "full": "FULL"}

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE blocks (last INTEGER PRIMARY KEY, first INTEGER, at REAL, size INTEGER, types TEXT,
    before INTEGER, crc INTEGER, packed BLOB);
CREATE TABLE openings (origin TEXT PRIMARY KEY, first INTEGER) WITHOUT ROWID;
CREATE TABLE groups (
    name TEXT PRIMARY KEY, declared TEXT, cursor INTEGER, ranges TEXT, seen_at REAL, expired INTEGER, lost INTEGER
) WITHOUT ROWID;
CREATE TABLE gaps (
    name TEXT, first INTEGER, last INTEGER, events INTEGER, reason TEXT, PRIMARY KEY (name, first)
) WITHOUT ROWID;
CREATE TABLE letters (
    name TEXT, seq INTEGER, packed BLOB, size INTEGER, attempts INTEGER, error TEXT, buried_at REAL, requeued INTEGER,
    PRIMARY KEY (name, seq)
);
"""

#: The statement of each table without line breaks, as the schema in the file must have it.
_LAYOUT = sorted(" ".join(statement.split()) for statement in _TABLES.split(";") if statement.strip())

#: The name of the note that a file has if each of its dead letters has a checksum.
ALL_SEALED = "all dead letters are sealed"
#: The columns that `unsealed` needs.
_LETTER = "name, seq, packed, attempts, error, buried_at"

#: Pages of the WAL (16 MB) after which it is copied into the file. The commit that reaches this bound waits for the copy.
_CHECKPOINT = 4000
#: Free pages that the file keeps for later, and the most free pages that are given back to the disk at a time.
_SPARE_PAGES = 2560
_PAGES_AT_A_TIME = 512

#: The header of SQLite's files: the position of the write version, and the valid schema formats.
_WRITE_VERSION = 18
_SCHEMA_FORMATS = [number.to_bytes(4, "big") for number in range(5)]


class Store:
    """The file of one journal, made if it is missing. Raises JournalError for a file that this version cannot use."""

    def __init__(self, path: Path, sync: str) -> None:
        self.path = path
        # Made before SQLite opens it: SQLite would use the umask. SQLite's log beside it gets the same mode.
        os.close(open_private(path))
        self.is_new = not path.exists() or path.stat().st_size == 0
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        self._db.text_factory = text_or_bytes
        #: The cursors whose rows are being read.
        self._cursors: set[sqlite3.Cursor] = set()
        try:
            self._prepare(sync)
            self.id = self.note("id") or ""
            #: Whether every dead letter in the file has a checksum.
            self.all_sealed = bool(self._one("SELECT count(*) FROM meta WHERE name = ?", (ALL_SEALED,)))
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, sync: str) -> None:
        self._refuse_strange_header()
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        if self.is_new:
            # Only for a new file, as this setting is stored in it: a journal on a full disk must open without writing anything.
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if self._one("PRAGMA journal_mode = WAL") != "wal":
            raise JournalError(f"the disk of journal {str(self.path)!r} allows no write-ahead log; use a local disk")
        self._db.execute(f"PRAGMA synchronous = {_SYNC[sync]}")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        self._db.execute("PRAGMA journal_size_limit = 67108864")
        version = self._one("PRAGMA user_version")
        if version == 0:
            self._create()
        elif version != _VERSION:
            raise JournalError(f"journal {str(self.path)!r} is of layout {version}; this version knows {_VERSION} only")
        elif self._layout() != _LAYOUT:
            raise Damaged("its tables are not those of its layout")

    def _refuse_strange_header(self) -> None:
        """Raise Damaged for values in the header that SQLite never writes, but does not report as damage.

        SQLite opens a file with another write version read-only, and takes another schema format for one of a future release (see
        "The Database Header" in SQLite's file format).
        """
        with self.path.open("rb") as file:
            header = file.read(48)
        if len(header) == 48 and (header[_WRITE_VERSION] not in (1, 2) or header[44:48] not in _SCHEMA_FORMATS):
            raise Damaged("its header is not one that SQLite writes")

    def _layout(self) -> list[str]:
        found = self._db.execute("SELECT CAST(sql AS BLOB) FROM sqlite_master WHERE type = 'table'").fetchall()
        return sorted(" ".join(str(sql or b"", "utf-8", "replace").split()) for (sql,) in found)

    def _create(self) -> None:
        self.is_new = True
        with self.transaction():
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO meta VALUES ('id', ?)", (uuid4().hex,))
            self._db.execute("INSERT INTO meta VALUES (?, 'yes')", (ALL_SEALED,))
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def _one(self, sql: str, parameters: Iterable[Any] = ()) -> Any:
        row = self._db.execute(sql, tuple(parameters)).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all statements of the block, or none of them."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def set_id(self, name: str) -> None:
        """Take over the id of another file, which this one replaces."""
        self.set_note("id", name)
        self.id = name

    def set_note(self, name: str, text: str) -> None:
        """Store a value that concerns the whole file."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, text))

    def may_have_unsealed(self) -> None:
        """Note that dead letters without a checksum, from a file of an older release, are copied into this file."""
        self._db.execute("DELETE FROM meta WHERE name = ?", (ALL_SEALED,))
        self.all_sealed = False

    def note(self, name: str) -> str | None:
        """The value that was stored under that name; None if there is none."""
        text: str | None = self._one("SELECT value FROM meta WHERE name = ?", (name,))
        return text

    # --- openings -------------------------------------------------------------------------------------------------------

    def openings(self) -> list[tuple[int, str]]:
        """(first seq, origin) of each opening, in order."""
        found = self._db.execute("SELECT first, origin FROM openings ORDER BY first").fetchall()
        if not all(type(first) is int and type(origin) is str for first, origin in found):
            raise Damaged("the row of an opening is malformed")
        return found

    def add_opening(self, first: int, origin: str) -> None:
        """Store that `origin` appends from `first` on. Openings that appended nothing are deleted."""
        with self.transaction():
            self._db.execute("DELETE FROM openings WHERE first >= ?", (first,))
            self._db.execute("INSERT INTO openings VALUES (?, ?)", (origin, first))

    # --- blocks ---------------------------------------------------------------------------------------------------------

    def add_block(self, row: Row, before: int, crc: int, packed: bytes) -> None:
        """Append a block, which is committed when this returns. `before` is the checksum of the block before it."""
        first, last, at, size, types = row
        self._db.execute(
            "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (last, first, at, size, json.dumps(types), before, crc, packed),
        )

    def rows(self, after: int = 0, limit: int = -1) -> Iterator[Row]:
        """The blocks with events after that seq, without their events."""
        # The actual size, not the one in the row, because it counts against the journal's bound.
        sql = f"SELECT first, last, at, length(packed) + {OVERHEAD}, types FROM blocks WHERE last > ? ORDER BY last LIMIT ?"
        cursor = self._db.execute(sql, (after, limit))
        self._cursors.add(cursor)
        try:
            yield from map(read_row, cursor)
        finally:
            self._cursors.discard(cursor)
            cursor.close()

    def packed(self, after: int, limit: int) -> list[tuple[int, int, float, int, int, bytes]]:
        """(first, last, at, before, crc, packed) of the next blocks with events after that seq."""
        return self._db.execute(
            "SELECT first, last, at, before, crc, packed FROM blocks WHERE last > ? ORDER BY last LIMIT ?", (after, limit)
        ).fetchall()

    def crc_at(self, last: int) -> int | None:
        """The checksum of the block that ends with that seq; None if there is none."""
        crc: int | None = self._one("SELECT crc FROM blocks WHERE last = ?", (last,))
        return crc

    def last_crc(self) -> int:
        """The checksum of the last block; 0 without any."""
        return self._one("SELECT crc FROM blocks ORDER BY last DESC LIMIT 1") or 0

    def seq_before(self, at: float) -> int:
        """The last seq that was committed before that time of the wall clock; 0 if none is kept."""
        return self._one("SELECT max(last) FROM blocks WHERE at < ?", (at,)) or 0

    def at_of(self, seq: int) -> float | None:
        """The time when the first event from `seq` on was committed."""
        at: float | None = self._one("SELECT at FROM blocks WHERE last >= ? ORDER BY last LIMIT 1", (seq,))
        return at

    def delete_blocks(self, to_seq: int) -> None:
        """Delete the blocks that end with that seq or before."""
        self._db.execute("DELETE FROM blocks WHERE last <= ?", (to_seq,))

    # --- groups and gaps --------------------------------------------------------------------------------------------------

    def groups(self) -> list[tuple[Any, ...]]:
        """(name, declared, cursor, ranges, seen_at, expired, lost) of all groups."""
        found = self._db.execute("SELECT name, declared, cursor, ranges, seen_at, expired, lost FROM groups").fetchall()
        return [(name, read_json(declared), cursor, read_json(ranges), *rest)
                for name, declared, cursor, ranges, *rest in found]  # fmt: skip

    def put_group(
        self, name: str, declared: object, cursor: int, ranges: object, seen_at: float, expired: bool, lost: int
    ) -> None:
        """Store the state of a group."""
        self._db.execute(
            "INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?, ?, ?)",
            (name, json.dumps(declared), cursor, json.dumps(ranges), seen_at, int(expired), lost),
        )

    def delete_group(self, name: str) -> int:
        """Delete a group with its gaps and dead letters. Returns the bytes of its dead letters."""
        with self.transaction():
            size: int = self._one("SELECT sum(size) FROM letters WHERE name = ?", (name,)) or 0
            for table in ("groups", "gaps", "letters"):
                self._db.execute(f"DELETE FROM {table} WHERE name = ?", (name,))
        return size

    def gaps(self, name: str) -> list[LostRange]:
        """The gaps that the group has not acknowledged."""
        sql = "SELECT first, last, events, reason FROM gaps WHERE name = ? ORDER BY first"
        gaps = [LostRange(*row) for row in self._db.execute(sql, (name,)).fetchall()]
        if not all(tuple(map(type, gap)) == (int, int, int, str) for gap in gaps):
            raise Damaged("the row of a gap is malformed")
        return gaps

    def put_gaps(self, name: str, gaps: Iterable[LostRange]) -> None:
        """Replace the stored gaps of the group."""
        self._db.execute("DELETE FROM gaps WHERE name = ?", (name,))
        self._db.executemany("INSERT INTO gaps VALUES (?, ?, ?, ?, ?)", [(name, *gap) for gap in gaps])

    # --- dead letters -----------------------------------------------------------------------------------------------------

    def put_dead_letter(self, name: str, seq: int, packed: bytes, attempts: int, error: dict[str, Any]) -> tuple[int, bool]:
        """Store a dead letter; it replaces an earlier one of the same event. Returns (added bytes, whether the count grew)."""
        buried_at = time()
        size = len(packed) + len(error_text := sealed(name, seq, packed, attempts, error, buried_at))
        find = "SELECT size, requeued FROM letters WHERE name = ? AND seq = ?"
        old_size, was_requeued = self._db.execute(find, (name, seq)).fetchone() or (0, 1)
        self._db.execute(
            "INSERT OR REPLACE INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            (name, seq, packed, size, attempts, error_text, buried_at),
        )
        return size - old_size, bool(was_requeued)

    def dead_letters(self, name: str | None, after: int, limit: int, requeued: bool) -> list[tuple[Any, ...]]:
        """(name, packed, attempts, error, buried_at), oldest seq first. Raises Damaged if one of them is damaged."""
        found = self._db.execute(
            f"SELECT {_LETTER} FROM letters WHERE requeued = ? AND seq > ?"
            " AND (? IS NULL OR name = ?) ORDER BY seq, name LIMIT ?",
            (int(requeued), after, name, name, limit),
        ).fetchall()
        return [
            (group, packed, attempts, unsealed(group, seq, packed, attempts, error, at, all_sealed=self.all_sealed), at)
            for group, seq, packed, attempts, error, at in found
        ]

    def dead_letter_sizes(self) -> list[tuple[str, int, int, int]]:
        """(group, dead letters, requeued ones, bytes of both)."""
        return self._db.execute(
            "SELECT name, count(*) - sum(requeued), sum(requeued), sum(size) FROM letters GROUP BY name"
        ).fetchall()

    def requeued_seqs(self, name: str) -> set[int]:
        """The seqs of the group's dead letters that are being delivered again."""
        return {seq for (seq,) in self._db.execute("SELECT seq FROM letters WHERE name = ? AND requeued", (name,))}

    def mark_requeued(self, name: str, seqs: Iterable[int] | None) -> list[bytes]:
        """Mark dead letters as requeued. Returns their packed events. Raises Damaged, and marks none, if one is damaged."""
        with self.transaction():
            found = [
                row
                for wanted in _parts(seqs)
                for row in self._db.execute(
                    f"UPDATE letters SET requeued = 1 WHERE name = ? AND NOT requeued{_among(wanted)} RETURNING {_LETTER}",
                    (name, *wanted),
                ).fetchall()
            ]
            for row in found:
                unsealed(*row, all_sealed=self.all_sealed)
        return [packed for _, _, packed, *_ in sorted(found, key=itemgetter(1))]

    def delete_dead_letters(self, name: str, seqs: Iterable[int] | None, requeued: bool = False) -> list[int]:
        """Delete dead letters. Returns the sizes of those that existed."""
        return [
            size
            for wanted in _parts(seqs)
            for (size,) in self._db.execute(
                f"DELETE FROM letters WHERE name = ? AND requeued = ?{_among(wanted)} RETURNING size",
                (name, int(requeued), *wanted),
            ).fetchall()
        ]

    def oldest_dead_letters(self, limit: int) -> list[tuple[str, int]]:
        """(group, seq) of the oldest dead letters."""
        return self._db.execute(
            "SELECT name, seq FROM letters WHERE NOT requeued ORDER BY buried_at, seq LIMIT ?", (limit,)
        ).fetchall()

    # --- repairs --------------------------------------------------------------------------------------------------------

    def carry_over(self, table: str, rows: Iterable[tuple[Any, ...]]) -> int:
        """Insert rows of another file's table. Returns the number of inserted events for blocks, else that of inserted rows."""
        carried = 0
        with self.transaction():
            for row in rows:
                marks = ", ".join("?" * len(row))
                added = self._db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row).rowcount
                carried += added * (row[0] - row[1] + 1 if table == "blocks" else 1)
        return carried

    # --- the disk -------------------------------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Copy the WAL into the file and truncate it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def give_back(self) -> bool:
        """Give some free pages back to the disk if there are many. Returns whether more could be given."""
        spare = self._one("PRAGMA freelist_count") - max(_SPARE_PAGES, self._one("PRAGMA page_count") // 2)
        if spare > 0:
            # Run as a script, because `execute` would do only the first step of this statement and free one page.
            self._db.executescript(f"PRAGMA incremental_vacuum({min(spare, _PAGES_AT_A_TIME)})")
        return bool(spare > _PAGES_AT_A_TIME)

    def close(self) -> None:
        """Close the file. A second call has no effect."""
        # A cursor that was half read when an error was raised lives on in the traceback, and would keep the file locked for a
        # repair.
        for cursor in self._cursors:
            cursor.close()
        self._cursors.clear()
        self._db.close()


def _parts(seqs: Iterable[int] | None) -> list[list[int]]:
    """The seqs in parts of 500, because SQLite limits the parameters of a statement. For None (all seqs), one empty part."""
    if seqs is None:
        return [[]]
    wanted = list(seqs)
    return [wanted[i : i + 500] for i in range(0, len(wanted), 500)]


def _among(wanted: list[int]) -> str:
    return f" AND seq IN ({', '.join('?' * len(wanted))})" if wanted else ""
