"""The last good view on disk, for a process that starts while every registry is down."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from discovery import protocol
from discovery.exceptions import DirectoryError
from discovery.model import Record
from discovery.native import Log

_log = Log(__name__)

FORMAT = 1
#: Bytes; a larger file is not ours.
MAX_SIZE = 64 * 1024 * 1024


class DiskCache:
    """One file per URL and namespace. Nothing here raises: a cache that fails is a warning, once."""

    def __init__(self, folder: Path, url: str, namespace: str | None) -> None:
        self._key = [url, namespace]
        digest = hashlib.sha256(repr(self._key).encode()).hexdigest()[:24]
        self.path = folder / f"directory-{digest}.msgpack"
        self._has_warned = False

    def load(self) -> list[tuple[Record, float]]:
        """(record, age in seconds) of the last good view; nothing when there is none."""
        try:
            if self.path.stat().st_size > MAX_SIZE:
                raise DirectoryError("it is too large")
            document = protocol.unpack(self.path.read_bytes())
            if (
                not isinstance(document, dict)
                or document.get("format") != FORMAT
                or document.get("key") != self._key
            ):
                raise DirectoryError("it is of another kind")
            # Two processes share the wall clock only; set back, it makes nothing younger than it was.
            passed = max(0.0, time.time() - float(document["saved_at"]))
            return [(Record.from_dict(fields), float(age) + passed) for fields, age in document["records"]]
        except FileNotFoundError:
            return []
        except (OSError, DirectoryError, KeyError, TypeError, ValueError) as exc:
            _log.warning("ignored the directory cache %s: %s", self.path, exc)
            return []

    def save(self, entries: Iterable[tuple[Record, float]]) -> None:
        """Replaces the file at one stroke, so that a reader sees the old one or the new one."""
        temporary = ""
        try:
            records = [[record.to_dict(), age] for record, age in entries]
            body = protocol.pack(
                {"format": FORMAT, "key": self._key, "saved_at": time.time(), "records": records}
            )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=self.path.name, dir=self.path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
            os.replace(temporary, self.path)
        except (OSError, DirectoryError) as exc:
            if temporary:
                try:
                    os.unlink(temporary)
                except OSError:
                    pass
            if not self._has_warned:
                self._has_warned = True
                _log.warning("the directory cache %s cannot be written: %s", self.path, exc)
