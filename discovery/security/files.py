"""Keys and certificates as files: readable texts, and private keys that nobody else can read.

Internal.

    # certificate of orders until 2027-11-29
    certificate: gqRuYW1lpm9yZGVycw...

A line is the kind of its content, and the content in base64. Lines that begin with `#` are for people.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path

from discovery.exceptions import SecurityError

#: The most bytes of such a file; a longer file is refused. Lists of revoked certificates of all authorities have room.
LONGEST_FILE = 6 * 1024 * 1024


def read(path: Path, kind: str) -> list[bytes]:
    """All contents of `kind` in the file. SecurityError, which quotes no line, if it cannot be read or has none."""
    return _contents(path, kind, _read(path)[0])


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """The text and the status of a file. Both belong to the same file, even if another one takes its name meanwhile."""
    try:
        with path.open("rb") as file:
            text, found = file.read(LONGEST_FILE + 1), os.fstat(file.fileno())
    except FileNotFoundError as exc:
        raise SecurityError(f"{path} does not exist; {_MEND}") from exc
    except OSError as exc:
        raise SecurityError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(text) > LONGEST_FILE:
        # Never only its beginning: the list of revoked certificates that counts may be on the last line.
        raise SecurityError(f"{path} has more than {LONGEST_FILE:,} bytes; is it another file? {_MEND}")
    return text, found


def _contents(path: Path, kind: str, text: bytes) -> list[bytes]:
    found = []
    for line in text.splitlines():
        name, colon, content = line.strip().partition(b":")
        if line.startswith(b"#") or not colon or name != kind.encode():
            continue
        try:
            found.append(base64.b64decode(content.strip(), validate=True))
        except binascii.Error as exc:
            raise SecurityError(f"{path} has a line {kind!r} that is not base64; is the file cut off?") from exc
    if not found:
        raise SecurityError(f"{path} has no line '{kind}: ...'; is it another file? {_MEND}")
    return found


def read_private(path: Path, kind: str) -> bytes:
    """The one content of `kind` in a private file, see `is_private`. SecurityError if other users can read the file."""
    text, found = _read(path)
    if not is_private(found, {os.getegid(), *os.getgroups()}):
        owner = f"mode {stat.S_IMODE(found.st_mode):04o}, of user {found.st_uid} and group {found.st_gid}"
        raise SecurityError(
            f"{path} is a private key that other users can read ({owner}); chmod 600 {path}, or give a Secret of Kubernetes "
            "defaultMode: 0440 and its pod an fsGroup, and if others may have read it, revoke its certificate and issue another"
        )
    return _contents(path, kind, text)[0]


def is_private(found: os.stat_result, groups: set[int]) -> bool:
    """Whether only the owner can read a file. Pure.

    A file of root's may also be readable by a group that this process is in and that is not root's: Kubernetes mounts a Secret
    like this for a pod with an fsGroup, and no other process is in that group.
    """
    mode = stat.S_IMODE(found.st_mode)
    if not mode & 0o077:
        return True
    return not mode & 0o037 and found.st_uid == 0 and found.st_gid != 0 and found.st_gid in groups


def write(path: Path, comment: str, lines: list[tuple[str, bytes]], private: bool = False) -> None:
    """Replace the file at once. A private file is never readable by other users, not even for a moment."""
    text = f"# {comment}\n" + "".join(f"{kind}: {base64.b64encode(content).decode()}\n" for kind, content in lines)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as exc:
        raise SecurityError(f"{path} cannot be written: {exc.strerror}") from exc


_MEND = "`zmqservices keys issue NAME` makes a node's folder"


def fingerprint(path: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    """A value that changes when a file is replaced; None if there is no file."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino
