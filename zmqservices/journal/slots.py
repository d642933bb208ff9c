"""The journal files of a source in a folder, and the process that owns each of them.

A journal is `SOURCE.N.journal` and belongs to the process that holds the flock of `SOURCE.N.lock` beside it; N is the slot. A
process takes the first free slot, so a process that restarts finds its journal again. An orphan is a journal without a process.
The lock's file also holds the mark, the last seq of the journal, with which a journal restored from a backup is noticed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from zmqservices.exceptions import JournalError, JournalFull

_NAME = re.compile(r"(?P<source>.+)\.(?P<slot>\d+)\.journal")
#: Bytes that are read for the mark. The mark is shorter.
_MARK = 128


class Orphan(NamedTuple):
    """A journal that no process owns. Open it with `Journal.open(folder, source, slot=slot)` to adopt it."""

    path: Path
    source: str
    slot: int


class SlotMark(NamedTuple):
    """The last known seq of the journal `id`, and the checksum of the block that ends there."""

    id: str
    seq: int
    crc: int


class Slot:
    """The place of one journal in a folder. This process owns it from `claim` to `release`."""

    def __init__(self, folder: Path, source: str, number: int) -> None:
        stem = f"{quote(source, safe='')}.{number}"
        self.number = number
        self.source = source
        self.path = folder / f"{stem}.journal"
        self._lock_path = folder / f"{stem}.lock"
        self._fd = -1

    def claim(self) -> bool:
        """Lock the slot. False if another process holds it. Raises OSError if the file system has no locks."""
        while True:
            fd = open_private(self._lock_path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(fd):
                    self._fd = fd
                    return True
            except BlockingIOError:
                os.close(fd)
                return False
            except OSError:
                os.close(fd)
                raise
            # Another process discarded the slot after this one opened the file and before it locked it.
            os.close(fd)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._lock_path))
        except FileNotFoundError:
            return False

    def is_linked(self) -> bool:
        """Whether the lock file is a symbolic link."""
        return self._lock_path.is_symlink()

    def mark(self) -> SlotMark | None:
        """The mark in the lock file, if there is one."""
        match os.pread(self._fd, _MARK, 0).split():
            case [name, seq, crc] if seq.isdigit() and crc.isdigit():
                return SlotMark(name.decode("ascii", "replace"), int(seq), int(crc))
        return None

    def leave_mark(self, mark: SlotMark) -> None:
        """Write the mark into the lock file. Raises OSError if the disk fails."""
        os.pwrite(self._fd, f"{mark.id} {mark.seq} {mark.crc}\n".encode().ljust(_MARK), 0)

    def discard(self) -> None:
        """Delete the journal and its lock file. The slot stays owned until `release`."""
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal"), self._lock_path):
            path.unlink(missing_ok=True)

    def release(self) -> None:
        """Unlock the slot. A second call has no effect."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def make_private(folder: Path) -> None:
    """Make the folder and its missing parents, readable by this user only: events may hold personal data."""
    for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def open_private(path: Path) -> int:
    """A descriptor of the file. If the file is missing, it is made, readable by this user only.

    A symbolic link is not followed: otherwise anyone who can put a link here could overwrite any file of this user.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"{str(path)!r} is no file")
        if found.st_mode & 0o077 and found.st_uid == os.geteuid():
            os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def claim(folder: Path, source: str, number: int | None) -> Slot:
    """Claim the slot of that number, or the first free one. Raises JournalError and JournalFull."""
    try:
        make_private(folder)
        return _claim(folder, source, number)
    except OSError as exc:
        kind = JournalFull if exc.errno in (errno.ENOSPC, errno.EDQUOT) else JournalError
        if exc.errno == errno.ELOOP:
            raise JournalError(f"{exc.filename!r} is a symbolic link, which is not followed; remove it") from exc
        mend = "make room there" if kind is JournalFull else "set JOURNAL_FOLDER to a folder that can be written to"
        raise kind(f"no journal of {source!r} can be kept in {str(folder)!r}: {exc.strerror or exc}; {mend}") from exc


def _claim(folder: Path, source: str, number: int | None) -> Slot:
    for slot in (Slot(folder, source, n) for n in (count() if number is None else (number,))):
        if slot.claim():
            return slot
    raise JournalError(f"journal {number} of {source!r} in {str(folder)!r} is in use by another process; choose another slot")


def orphans(folder: Path, source: str | None) -> Iterator[Orphan]:
    """The journals that no process owns, ordered by name."""
    for path in sorted(folder.glob("*.journal")):
        match = _NAME.fullmatch(path.name)
        if match is None or source not in (None, unquote(match["source"])):
            continue
        slot = Slot(folder, unquote(match["source"]), int(match["slot"]))
        try:
            is_ours = slot.claim()
        except OSError:
            if path.is_symlink() or slot.is_linked():
                continue  # Not a file of this package. Go on with the others.
            raise
        if is_ours:
            slot.release()
            yield Orphan(path, slot.source, slot.number)
