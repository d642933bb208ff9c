"""The store of notes: values under keys that outlive all leases, until their ttl is over.

Internal. Programs use `Directory.put`, `Directory.delete` and `View.notes`.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument (seconds since 1970).
Rule 2: of two notes under one key the one of higher rank wins, whoever wrote or forwarded it.
Rule 3: when there are too many notes, the writer with the most notes loses its oldest ones. A signed note belongs to its signer,
whoever forwards it. A signer that has its full share loses the note that it wrote first.
Rule 4: a deleted note becomes a tombstone, a note without a value. It lives as long as the deleted note would have, so that
a client that was away meanwhile does not bring the note back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from discovery.model import Note

#: The most notes of one namespace, and of all. With more, the writer with the most notes loses its oldest ones.
MAX_NOTES, MAX_ALL_NOTES = 5_000, 20_000
#: Seconds by which a writer's clock may be ahead. A note from farther in the future could not be replaced until then.
AHEAD = 86_400.0
#: The most stored notes of one signer.
MOST_OF_SIGNER = 1_000

#: The connection or registry that a note came from.
Writer = bytes | str


class NoteStore:
    """All notes that one registry or one client holds."""

    def __init__(
        self,
        ahead: float = AHEAD,
        most_of_writer: int | None = None,
        most: int | None = None,
        most_of_namespace: int | None = None,
        most_of_signer: int | None = None,
    ) -> None:
        self.ahead = ahead
        self._most = MAX_ALL_NOTES if most is None else most
        self._most_of_namespace = MAX_NOTES if most_of_namespace is None else most_of_namespace
        self._most_of_signer = MOST_OF_SIGNER if most_of_signer is None else most_of_signer
        #: The most stored notes of one writer; None: any number.
        self.most_of_writer = most_of_writer
        #: Notes of the last `take` that exceeded `most_of_writer`.
        self.refused = 0
        self._writers: dict[tuple[str, str], Writer] = {}
        #: The places of each writer's notes, in the order in which they came.
        self._written: dict[Writer, dict[tuple[str, str], None]] = {}
        self._notes: dict[str, dict[str, Note]] = {}

    def __iter__(self) -> Iterator[Note]:
        for notes in self._notes.values():
            yield from notes.values()

    def __len__(self) -> int:
        return sum(map(len, self._notes.values()))

    def of(self, namespace: str | None) -> list[Note]:
        """The notes of a namespace (None: of all namespaces)."""
        return list(self) if namespace is None else list(self._notes.get(namespace, {}).values())

    def places(self, namespace: str | None) -> list[tuple[str, str]]:
        """Namespace and key of each note of a namespace (None: of all namespaces)."""
        return [(note.namespace, note.key) for note in self.of(namespace)]

    def get(self, namespace: str, key: str) -> Note | None:
        """The note under that key, which may be a tombstone."""
        return self._notes.get(namespace, {}).get(key)

    def take(self, notes: Iterable[Note], now: float, writer: Writer = "") -> list[Note]:
        """Stores the notes that are new or of higher rank, and returns them. `writer`: the connection that they came from."""
        self.refused = 0
        news = [note for note in notes if self._take(note, now, writer)]
        for namespace in {note.namespace for note in news}:
            self._evict(namespace, len(self._notes.get(namespace, ())) - self._most_of_namespace)
        while (excess := len(self) - self._most) > 0:
            self._evict(max(self._notes, key=lambda name: len(self._notes[name])), excess)
        return [note for note in news if self.get(note.namespace, note.key) is note]

    def expire(self, now: float) -> bool:
        """Drops notes whose ttl is over; to be called from time to time. Returns whether there were any."""
        past = [note for note in self if note.age(now) > note.ttl]
        for note in past:
            self._remove(note)
        return bool(past)

    def _take(self, note: Note, now: float, writer: Writer) -> bool:
        held = self.get(note.namespace, note.key)
        if not -self.ahead <= note.age(now) <= note.ttl or (held is not None and note.rank <= held.rank):
            return False
        place = (note.namespace, note.key)
        writer = note.signer or writer
        most = self._most_of_signer if note.signer else self.most_of_writer
        is_full = most is not None and len(self._written.get(writer, ())) >= most
        if is_full and self._writers.get(place) != writer:
            if not note.signer:
                self.refused += 1
                return False
            self._remove(self._notes_at(next(iter(self._written[writer]))))
        if held is not None:
            self._remove(held)
        self._notes.setdefault(note.namespace, {})[note.key] = note
        self._writers[place] = writer
        self._written.setdefault(writer, {})[place] = None
        return True

    def _evict(self, namespace: str, excess: int) -> None:
        if excess <= 0:
            return
        by_writer: dict[Writer, list[Note]] = {}
        # The newest first, so that `pop` returns the oldest note of a writer.
        for note in sorted(self._notes[namespace].values(), key=lambda note: note.rank, reverse=True):
            by_writer.setdefault(self._writers[note.namespace, note.key], []).append(note)
        for _ in range(excess):
            self._remove(max(by_writer.values(), key=len).pop())

    def _remove(self, note: Note) -> None:
        notes = self._notes[note.namespace]
        del notes[note.key]
        if not notes:
            del self._notes[note.namespace]
        place = (note.namespace, note.key)
        writer = self._writers.pop(place)
        del self._written[writer][place]
        if not self._written[writer]:
            del self._written[writer]

    def _notes_at(self, place: tuple[str, str]) -> Note:
        return self._notes[place[0]][place[1]]
