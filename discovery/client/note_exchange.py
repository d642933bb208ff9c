"""Copies notes between this process and all registries: every one of them gets the notes that it lacks.

Internal. Used on the directory's own thread only.

Rule 1: of two notes under one key the one with the higher rank is kept and sent, whoever wrote it.
Rule 2: notes of this process are signed again at once when its certificate has changed.
Rule 3: a registry that connects is sent notes after a short random time, since another client may send it the same notes.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator

from discovery import protocol
from discovery.client.cache import DiskCache
from discovery.client.connection import DirectoryConnection
from discovery.client.merge import OWN
from discovery.model import Note
from discovery.notes import MAX_ALL_NOTES, NoteStore
from discovery.security.envelopes import Signer

NEVER = float("inf")
#: Seconds, at random, before a registry is sent notes that it lacks.
SEND_WITHIN = 1.0
#: Seconds until notes are sent again that a connection had no room for.
SEND_AGAIN = 1.0
#: Seconds between two writes of the notes to disk.
SAVE_INTERVAL = 1.0
#: Seconds between two searches for expired notes.
EXPIRE_INTERVAL = 60.0
#: The number of the first request about notes. Requests about records never get so far.
FIRST_REQUEST = 1 << 40

#: The rank of each note that a registry has, by namespace and key.
NoteRanks = dict[tuple[str, str], tuple[int, bool, str]]


class NoteExchange:
    """The notes of one client. `signer` signs them in a closed cluster. `changed` is called after each change."""

    def __init__(self, cache: DiskCache | None, signer: Signer | None, changed: Callable[[], None], now: float) -> None:
        self._cache = cache
        self._signer = signer
        self._changed = changed
        self._notes = NoteStore()
        #: The rank of each note that a connected registry has, as far as we know.
        self._ranks: dict[DirectoryConnection, NoteRanks] = {}
        self._requests = itertools.count(FIRST_REQUEST)
        self._unanswered: dict[DirectoryConnection, set[int]] = {}
        self._send_at = self._save_at = NEVER
        self._expire_at = now
        #: The certificate with which the own notes were signed last; empty if some must be looked at again.
        self._certificate = b""

    def __iter__(self) -> Iterator[Note]:
        return iter(self._notes)

    def next_round(self) -> float:
        """The time at which `work` or `save` is next needed."""
        return min(self._send_at, self._save_at)

    def put(self, note: Note, is_new: bool, now: float) -> None:
        """Stores a note at every registry. A new note replaces the known one, whatever the stamp of that."""
        held = self._notes.get(note.namespace, note.key)
        if held is not None and is_new:
            # The clock of the host that wrote the known note may be ahead of ours.
            note = dataclasses.replace(note, stamp=max(note.stamp, held.stamp + 1))
            if note.value is None:
                note = dataclasses.replace(note, ttl=max(note.ttl, held.ttl))
        if self._signer is not None:
            note = self._signer.note(note)
        if self._take([note]):
            self.send(now)

    def load(self) -> None:
        """Takes the notes that are on disk."""
        if self._cache is not None:
            self._take(self._cache.load_notes())

    def work(self, now: float) -> None:
        """Signs and sends notes, and drops expired ones, when that is due."""
        if self._signer is not None and self._certificate != self._signer.certificate:
            self._certificate = self._signer.certificate
            self._sign_again(self._signer, now)
        if now >= self._send_at:
            self.send(now)
        if now >= self._expire_at:
            self._expire(now)

    def save(self, now: float) -> None:
        """Writes the notes to disk when that is due."""
        if self._cache is not None and now >= self._save_at:
            # Another process may have saved notes meanwhile, although it has no registry in common with this one.
            self._take(self._cache.load_notes())
            self._save_at = NEVER
            self._cache.save_notes(self._notes)

    def finish(self) -> None:
        """Writes the notes to disk if they have changed since they were last written."""
        if self._save_at is not NEVER:
            self.save(self._save_at)

    # --- registries ---

    def up(self, connection: DirectoryConnection, notes: list[Note], now: float) -> None:
        """A registry has connected and has sent all its notes."""
        self._ranks[connection], self._unanswered[connection] = {}, set()
        self.received(connection, notes, now)

    def down(self, connection: DirectoryConnection) -> None:
        """The connection to a registry has ended."""
        self._ranks.pop(connection, None)
        self._unanswered.pop(connection, None)

    def received(self, connection: DirectoryConnection, notes: list[Note], now: float) -> None:
        """A registry sent notes, so it has them. The other registries get those that they lack, soon."""
        self._take(notes, connection.address)
        # Only a note that we hold as well could ever be sent to it.
        ranks = self._ranks[connection]
        ranks.update(((note.namespace, note.key), note.rank) for note in notes if self._notes.get(note.namespace, note.key))
        if len(ranks) > 2 * MAX_ALL_NOTES:
            self._drop_removed(ranks)
        self._send_at = min(self._send_at, now + random.uniform(0, SEND_WITHIN))

    def answered(self, connection: DirectoryConnection, request: int) -> None:
        """A registry has acknowledged or refused a request."""
        self._unanswered.get(connection, set()).discard(request)

    def send(self, now: float) -> None:
        """Sends each registry the notes that it lacks, or has only in older versions."""
        self._send_at = NEVER
        most = protocol.MAX_NOTES if self._signer is None else protocol.MAX_SIGNED_NOTES
        for connection, ranks in self._ranks.items():
            news = self._missing(connection)
            for start in range(0, len(news), most):
                message = protocol.PutNotes(next(self._requests), news[start : start + most])
                if not connection.send(message):
                    self._send_at = now + SEND_AGAIN
                    break
                self._unanswered[connection].add(message.request)
                ranks.update(((note.namespace, note.key), note.rank) for note in message.notes)

    def is_acknowledged(self, connection: DirectoryConnection) -> bool:
        """Whether a registry has acknowledged all notes."""
        return not (self._unanswered.get(connection) or self._missing(connection))

    def _sign_again(self, signer: Signer, now: float) -> None:
        again = [signed for note in self._notes if (signed := signer.note_again(note)) is not None]
        if self._take(again):
            self.send(now)

    def _missing(self, connection: DirectoryConnection) -> list[Note]:
        ranks = self._ranks.get(connection, {})
        return [note for note in self._notes if note.rank > ranks.get((note.namespace, note.key), (-1, False, ""))]

    def _take(self, notes: list[Note], writer: str = OWN) -> bool:
        is_news = bool(self._notes.take(notes, time.time(), writer))
        if is_news:
            self._have_changed(time.monotonic())
            if writer != OWN and self._signer is not None and any(map(self._signer.is_own, notes)):
                self._certificate = b""
        return is_news

    def _have_changed(self, now: float) -> None:
        self._changed()
        if self._cache is not None:
            self._save_at = min(self._save_at, now + SAVE_INTERVAL)

    def _expire(self, now: float) -> None:
        self._expire_at = now + EXPIRE_INTERVAL
        if self._notes.expire(time.time()):
            self._have_changed(now)
        for ranks in self._ranks.values():
            self._drop_removed(ranks)

    def _drop_removed(self, ranks: NoteRanks) -> None:
        for place in [place for place in ranks if self._notes.get(*place) is None]:
            del ranks[place]
