"""What the errors of a journal's file mean: damage, a full disk, or another fault."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from zmqservices.exceptions import JournalError, JournalFull
from zmqservices.journal.blocks import Damaged

_FULL = sqlite3.SQLITE_FULL
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damage(exc: BaseException) -> bool:
    """Whether an error of SQLite, or of reading a value in the file, means that the file is damaged."""
    return isinstance(exc, Damaged) or (isinstance(exc, sqlite3.Error) and _primary(exc) in _DAMAGED)


def explain(path: Path, exc: Exception, then: str = "dispatch again") -> JournalError:
    """The error that users get for `exc` at the file `path`. `then` says what they can do once the cause is removed."""
    if isinstance(exc, JournalError):
        return exc
    if isinstance(exc, sqlite3.Error) and _primary(exc) == _FULL:
        return JournalFull(f"the disk of journal {str(path)!r} is full; make room there, and {then}")
    if isinstance(exc, OSError) and exc.errno == errno.ELOOP:
        return JournalError(f"{str(path)!r} is a symbolic link, which is not followed; remove it")
    if isinstance(exc, (sqlite3.Error, OSError)):
        return JournalError(f"journal {str(path)!r} cannot be used: {exc}")
    return JournalError(f"journal {str(path)!r}: {type(exc).__name__}: {exc}")


def _primary(exc: sqlite3.Error) -> int:
    return (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
