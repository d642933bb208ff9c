"""What a client of a closed cluster believes: records, withdrawals and notes that a node has signed. It ignores all others.

Rule 1: registries, engines and files on disk are only places where signed records and notes are found. They can say that they
list one, or that they do not list it any more, and nothing else.
Rule 2: a node need not sign what it sends over a connection on which it has proven its key; see `NodeConnection`.
Rule 3: each record or note that is ignored is logged once, with its source and the reason.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from discovery import protocol
from discovery.client.cache import DiskCache
from discovery.client.connection import DirectoryConnection, DirectoryListener
from discovery.interest import EVERYTHING, Interest
from discovery.model import Note, Record, quoted
from discovery.native import Log
from discovery.record_blocks import Listed, unpacked
from discovery.security.envelopes import Signer, Verifier
from discovery.security.keys import Keys
from discovery.security.verdicts import Refusal

_log = Log(__name__)

#: The most log lines within LINES_WITHIN seconds, and the number of different lines that are remembered.
MOST_LINES, LINES_WITHIN, MOST_TOLD = 20, 60.0, 1000


class Gate:
    """Verifies records and notes for one client. `signer` signs those of the client itself."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self.signer = Signer(keys)
        self.verifier = Verifier(keys)
        #: How many records, notes and withdrawals were ignored.
        self.refused = 0
        self._clock = clock
        self._told: set[tuple[str, str, str]] = set()
        self._lines: list[float] = []

    def record(self, record: Record, where: str, is_cached: bool = False) -> Record | None:
        """The record as its node signed it; None for one that is ignored. `is_cached`: see `Verifier.record`."""
        try:
            return self.verifier.record(record, is_cached)
        except Refusal as exc:
            self._tell(f"the record {quoted(record.instance)} of {quoted(record.service)}", where, exc)
            return None

    def note(self, note: Note, where: str) -> Note | None:
        """The note with its signer; None for one that is ignored."""
        try:
            return self.verifier.note(note)
        except Refusal as exc:
            self._tell(f"the note {quoted(note.key)}", where, exc)
            return None

    def believes(self, found: Record | Note, where: str) -> bool:
        """Whether a record or note in an engine is believed. Also called by the threads of engines."""
        return (self.record(found, where) if isinstance(found, Record) else self.note(found, where)) is not None

    def is_withdrawn(self, drop: protocol.Drop, where: str) -> bool:
        """Whether the node of the instance signed that it is withdrawn."""
        try:
            self.verifier.withdrawal(drop.signed, drop.instance, (drop.incarnation, drop.version))
        except Refusal as exc:
            self._tell(f"the withdrawal of {quoted(drop.instance)}", where, exc)
            return False
        return True

    def _tell(self, what: str, where: str, why: Refusal) -> None:
        self.refused += 1
        line = (what, where, why.reason)
        now = self._clock()
        self._lines = [at for at in self._lines if now - at < LINES_WITHIN]
        if line in self._told or len(self._lines) >= MOST_LINES:
            return
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told.add(line)
        self._lines.append(now)
        _log.warning("passed over %s from %s: %.400s", what, where, why)


class VerifiedListener:
    """A `DirectoryListener` that verifies records and notes, and hands the valid ones on to another listener."""

    def __init__(self, listener: DirectoryListener, gate: Gate) -> None:
        self._listener = listener
        self._gate = gate

    @property
    def interest(self) -> Interest:
        """The interest of the other listener."""
        return self._listener.interest

    def on_up(self, connection: DirectoryConnection, snapshot: list[protocol.Snapshot], now: float) -> None:
        """Hands on the records and notes of the snapshot that are signed."""
        where = connection.address
        for part in () if connection.is_own_word else snapshot:
            # All records of blocks are decoded at once: a rank counts only after its signature was verified.
            packed = [entry for block in part.blocks for entry in block.entries]
            records = zip(unpacked(entry[0] for entry in packed), packed, strict=True)
            entries = [*part.entries, *((one, age, suspect) for one, (_, age, suspect) in records if one is not None)]
            found = [(self._gate.record(record, where), age, suspect) for record, age, suspect in entries]
            part.blocks = []
            part.entries = [entry for entry in found if entry[0] is not None]
            part.notes = self._notes(part.notes, where)
        self._listener.on_up(connection, snapshot, now)

    def on_message(self, connection: DirectoryConnection, message: protocol.Message, now: float) -> None:
        """Hands on a message without its unsigned parts. Without a signature, a withdrawal is only the end of a listing."""
        match message:
            case _ if connection.is_own_word:
                pass
            case protocol.Update():
                record = self._gate.record(message.record, connection.address)
                if record is None:
                    return
                message.record = record
            case protocol.Drop(withdrawn=True):
                if not self._gate.is_withdrawn(message, connection.address):
                    message = dataclasses.replace(message, withdrawn=False)
            case protocol.NotesChanged():
                message.notes = self._notes(message.notes, connection.address)
        self._listener.on_message(connection, message, now)

    def on_extended(self, connection: DirectoryConnection, now: float) -> None:
        """Hands it on."""
        self._listener.on_extended(connection, now)

    def on_unreadable(self, instance: str, tell: Callable[[], None]) -> None:
        """Hands it on."""
        self._listener.on_unreadable(instance, tell)

    def on_down(self, connection: DirectoryConnection, now: float) -> None:
        """Hands it on."""
        self._listener.on_down(connection, now)

    def _notes(self, notes: Iterable[Note], where: str) -> list[Note]:
        return [note for one in notes if (note := self._gate.note(one, where)) is not None]


class VerifiedCache(DiskCache):
    """A cache whose files may have been changed by anybody: only signed records and notes are read from it."""

    def __init__(self, gate: Gate, folder: Path, url: str, namespace: str | None, keeps_records: bool = True) -> None:
        super().__init__(folder, url, namespace, keeps_records)
        self._gate = gate

    def load(self, interest: Interest = EVERYTHING) -> list[tuple[Listed, float]]:
        """The signed records of the last good view. All are decoded here: a rank counts only after its signature was verified."""
        where = f"the cache in {self.path.parent}"
        found = super().load(interest)
        records = zip(unpacked(one for one, _ in found), (age for _, age in found), strict=True)
        verified = [(self._gate.record(one, where, is_cached=True), age) for one, age in records if one is not None]
        return [(record, age) for record, age in verified if record is not None]

    def load_notes(self) -> list[Note]:
        """The signed ones of the saved notes."""
        where = f"the cache in {self.notes_path.parent}"
        return [note for one in super().load_notes() if (note := self._gate.note(one, where)) is not None]

