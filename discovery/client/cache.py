"""The last good view and all notes, on disk: for a process that starts while every registry is down."""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from discovery import protocol
from discovery.exceptions import DirectoryError
from discovery.interest import EVERYTHING, Interest
from discovery.model import Note, Record
from discovery.native import Log
from discovery.record_blocks import (
    BlockContents,
    BlockPacker,
    Entry,
    Listed,
    OnUnreadable,
    PackedRecord,
    RecordBlock,
    filled,
    keys_of_listed,
    nobody_told,
)

_log = Log(__name__)

FORMAT = 1
#: Bytes; a larger file was not written by this module.
MAX_SIZE = 64 * 1024 * 1024


class DiskCache:
    """The files for one URL and namespace. Methods never raise; a cache that fails is logged once, as a warning.

    A client of everything has one file of records. A client with an interest has one file for each key, which it shares with all
    processes whose interest has that key. `keeps_records=False`: only notes are cached.
    """

    def __init__(self, folder: Path, url: str, namespace: str | None, keeps_records: bool = True) -> None:
        self._key = [url, namespace]
        # A collision does no harm, since the file contains the key, which is compared. hashlib would load OpenSSL, 3.5 MB.
        digest = zlib.crc32(repr(self._key).encode())
        self._folder = folder
        self._digest = f"{digest:08x}"
        self.path = folder / f"directory-{self._digest}.msgpack"
        self.notes_path = folder / f"notes-{digest:08x}.msgpack"
        self._keeps_records = keeps_records
        self._has_warned = False
        #: Called with a bad record's instance and the reason, on the thread that decodes the record first.
        self.on_bad: OnUnreadable = nobody_told

    def load(self, interest: Interest = EVERYTHING) -> list[tuple[Listed, float]]:
        """(record, age in seconds) for each record in the last good view of an interest; empty if there is none."""
        if not self._keeps_records:
            return []
        if interest is None:
            return self._load(self.path, None)
        return [entry for key in sorted(interest) for entry in self._load(self._path_of(key), key)]

    def _load(self, path: Path, key: str | None) -> list[tuple[Listed, float]]:
        try:
            document = self._read(path)
            if document is None:
                return []
            if document.get("of") != key:
                raise DirectoryError("it belongs to another directory or format")
            # Two processes share only the wall clock. If it was set back, ages must not shrink.
            passed = max(0.0, time.time() - float(document["saved_at"]))
            if "blocks" not in document:
                # The format of earlier releases.
                return [(Record.from_dict(fields), float(age) + passed) for fields, age in document["records"]]
            blocks = [RecordBlock.from_list(protocol.unpack(block)) for block in document["blocks"]]
            for block in blocks:
                block.contents.on_bad = self.on_bad
            return [(record, age + passed) for block in blocks for record, age, _ in block.entries]
        except (OSError, DirectoryError, KeyError, TypeError, ValueError) as exc:
            _log.warning("ignored the directory cache %s: %s", path, exc)
            return []

    def save(self, entries: Iterable[tuple[Listed, float]], interest: Interest = EVERYTHING) -> None:
        """Replaces the last good view of an interest. Entries outside of the interest are left out."""
        if not self._keeps_records:
            return
        by_key: dict[str | None, list[Entry]] = {None: []} if interest is None else {key: [] for key in interest}
        raws: dict[BlockContents, bytes] = {}
        for record, age in entries:
            keys = keys_of_listed(record)
            wanted = [key for key in ((None,) if interest is None else keys) if key in by_key]
            packed = _packed(record, raws) if wanted else None
            if packed is not None:
                for key in wanted:
                    by_key[key].append((keys, [record.instance, *record.rank, age, False], packed))
        for key, records in by_key.items():
            path = self.path if key is None else self._path_of(key)
            blocks = [filled(block, 0.0) for block in BlockPacker().pack(records)]
            self._write(path, {"of": key, "saved_at": time.time(), "blocks": blocks})

    def _path_of(self, key: str) -> Path:
        raw = key.encode()
        return self._folder / f"directory-{self._digest}-{zlib.crc32(raw):08x}{zlib.crc32(raw[::-1]):08x}.msgpack"

    def load_notes(self) -> list[Note]:
        """The saved notes, including those that other processes saved."""
        try:
            document = self._read(self.notes_path)
            return [] if document is None else [Note.from_list(fields) for fields in document["notes"]]
        except (OSError, DirectoryError, KeyError, TypeError, ValueError) as exc:
            _log.warning("ignored the notes in %s: %s", self.notes_path, exc)
            return []

    def save_notes(self, notes: Iterable[Note]) -> None:
        """Replaces the saved notes."""
        self._write(self.notes_path, {"notes": [note.to_list() for note in notes]})

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            if path.stat().st_size > MAX_SIZE:
                raise DirectoryError("it is too large")
            document = protocol.unpack(path.read_bytes())
        except FileNotFoundError:
            return None
        if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("key") != self._key:
            raise DirectoryError("it belongs to another directory or format")
        return document

    def _write(self, path: Path, document: dict[str, Any]) -> None:
        # Atomically, so that a reader sees either the old file or the new one.
        temporary = ""
        try:
            body = protocol.pack({"format": FORMAT, "key": self._key, **document})
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
            os.replace(temporary, path)
        except (OSError, DirectoryError) as exc:
            if temporary:
                try:
                    os.unlink(temporary)
                except OSError:
                    pass
            if not self._has_warned:
                self._has_warned = True
                _log.warning("the directory cache %s cannot be written: %s", path, exc)


def _packed(record: Listed, raws: dict[BlockContents, bytes]) -> bytes | None:
    """The record as msgpack; None for a bad one. A record that is not decoded yet stays so."""
    return record.packed(raws) if isinstance(record, PackedRecord) else protocol.pack(record.to_dict())
