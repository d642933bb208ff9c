"""What a directory remembers beyond all leases: notes, each under a key, until they are too old.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument (seconds since 1970, as every host has it).
Rule 2: of two notes under one key the one of higher rank is true, whoever wrote it and whoever tells of it.
Rule 3: what is to be forgotten is a note without a value. It is kept as long as the other was to be, so that nobody
who was away meanwhile brings that one back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from discovery.model import Note

#: Notes of one namespace, and of all; beyond them those that were written longest ago are let go.
MAX_NOTES, MAX_ALL_NOTES = 5_000, 20_000
#: Seconds by which the clock of a writer may be ahead; what is from farther in the future would never be outdone.
AHEAD = 86_400.0


class Notes:
    """All notes that somebody knows: a registry, or a client of some."""

    def __init__(self, ahead: float = AHEAD) -> None:
        self.ahead = ahead
        self._notes: dict[str, dict[str, Note]] = {}

    def __iter__(self) -> Iterator[Note]:
        for notes in self._notes.values():
            yield from notes.values()

    def __len__(self) -> int:
        return sum(map(len, self._notes.values()))

    def of(self, namespace: str | None) -> list[Note]:
        """Those of a namespace (None: of all)."""
        return list(self) if namespace is None else list(self._notes.get(namespace, {}).values())

    def get(self, namespace: str, key: str) -> Note | None:
        """What is known under that key, if only that it is to be forgotten."""
        return self._notes.get(namespace, {}).get(key)

    def take(self, notes: Iterable[Note], now: float) -> list[Note]:
        """Those of them that are news, and held from now on."""
        news = [note for note in notes if self._take(note, now)]
        for namespace in {note.namespace for note in news}:
            self._let_go(namespace, len(self._notes[namespace]) - MAX_NOTES)
        while (excess := len(self) - MAX_ALL_NOTES) > 0:
            self._let_go(max(self._notes, key=lambda name: len(self._notes[name])), excess)
        return [note for note in news if self.get(note.namespace, note.key) is note]

    def expire(self, now: float) -> bool:
        """To be called now and then: lets go of what is too old. Everybody finds that out alone. True: some was."""
        past = [note for note in self if note.age(now) > note.keep]
        for note in past:
            self._remove(note)
        return bool(past)

    def _take(self, note: Note, now: float) -> bool:
        held = self.get(note.namespace, note.key)
        if not -self.ahead <= note.age(now) <= note.keep or (held is not None and note.rank <= held.rank):
            return False
        self._notes.setdefault(note.namespace, {})[note.key] = note
        return True

    def _let_go(self, namespace: str, excess: int) -> None:
        if excess > 0:
            for note in sorted(self._notes[namespace].values(), key=lambda note: note.rank)[:excess]:
                self._remove(note)

    def _remove(self, note: Note) -> None:
        notes = self._notes[note.namespace]
        del notes[note.key]
        if not notes:
            del self._notes[note.namespace]
