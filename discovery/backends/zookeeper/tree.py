"""What the nodes that a client has read hold: records, notes and lists of revoked certificates.

Rule 1: no sockets, no threads, no clock here; `now` is an argument, in seconds since 1970.
Rule 2: while a change replaces a node, a record or note has two nodes; the one of higher rank counts. An instance is gone when
its last node is.
"""

from __future__ import annotations

from typing import Any

from discovery import protocol
from discovery.backend import Believes
from discovery.backends.zookeeper.paths import NodePlace, ZooKeeperPaths
from discovery.client.engine_session import Change, Gone
from discovery.exceptions import DirectoryProtocolError
from discovery.interest import sources_of
from discovery.model import Note, Record
from discovery.native import Log
from discovery.security.revocations import FoundList

_log = Log(__name__)


class NodeTree:
    """The nodes of one connection. `name`: the directory's URL, for the log.

    The thread that watches changes it. The methods that return copies may be called by the thread that writes.
    """

    def __init__(self, paths: ZooKeeperPaths, name: str, believes: Believes) -> None:
        self._paths = paths
        self._name = name
        self._believes = believes
        #: The records of each instance, by path.
        self._records: dict[str, dict[str, Record]] = {}
        #: The notes under each namespace and key, by path.
        self._notes: dict[tuple[str, str], dict[str, Note]] = {}
        self._lists: dict[str, bytes] = {}
        #: The nodes of notes that this client wrote.
        self.written: set[str] = set()

    def records(self) -> list[Record]:
        """The record of each instance."""
        return [max(nodes.values(), key=_rank) for nodes in self._records.values() if nodes]

    def notes(self) -> list[Note]:
        """The note under each key."""
        return [max(nodes.values(), key=_rank) for nodes in self._notes.values() if nodes]

    def lists(self) -> tuple[bytes, ...]:
        """All lists of revoked certificates."""
        return tuple(self._lists.values())

    def nodes_of(self, instance: str) -> list[str]:
        """The nodes of an instance; a copy."""
        return list(self._records.get(instance, ()))

    def notes_under(self, namespace: str, key: str) -> dict[str, Note]:
        """The notes under a key, by path; a copy."""
        return dict(self._notes.get((namespace, key), {}))

    def lists_of(self, authority: bytes) -> dict[str, bytes]:
        """The lists of an authority, by path; a copy."""
        return {path: signed for path, signed in list(self._lists.items()) if self._paths.is_list_of(path, authority)}

    def outdated(self, now: float) -> list[str]:
        """The nodes of notes that are past their ttl, or replaced by another note."""
        old: list[str] = []
        for nodes in self._notes.values():
            best = max(nodes.values(), key=_rank, default=None)
            old += [path for path, note in nodes.items() if note is not best or note.age(now) > note.ttl]
        return old

    def came(self, path: str, value: bytes) -> Change | None:
        """A node was read. Returns the change, or None for a value that is unusable, in the wrong place or outranked."""
        if self._paths.is_list(path):
            self._lists[path] = value
            return FoundList(value)
        place = self._paths.place_of(path)
        try:
            if place.kind == "notes":
                return self._note_came(path, place, Note.from_list(protocol.unpack(value)))
            return self._record_came(path, place, Record.from_dict(protocol.unpack(value)))
        except DirectoryProtocolError as exc:
            _log.warning("passed over node %.300s of directory %s: %s", path, self._name, exc)
            return None

    def _note_came(self, path: str, place: NodePlace, note: Note) -> Note | None:
        if (note.namespace, note.key) != (place.namespace, place.name) or not self._believes(note, self._name):
            return None
        nodes = self._notes.setdefault((note.namespace, note.key), {})
        nodes[path] = note
        return note if all(other.rank <= note.rank for other in nodes.values()) else None

    def _record_came(self, path: str, place: NodePlace, record: Record) -> Record | None:
        folders = {record.service} if place.kind == "records" else sources_of(record)
        is_in_place = place.folder in folders and (record.namespace, record.instance) == (place.namespace, place.name)
        if not is_in_place or not self._believes(record, self._name):
            return None
        nodes = self._records.setdefault(record.instance, {})
        nodes[path] = record
        return record if all(other.rank <= record.rank for other in nodes.values()) else None

    def replaced_beside(self, path: str) -> list[str]:
        """Nodes that this client must delete after the note at `path` came: two clients wrote the note at the same time."""
        if self._paths.is_list(path) or (place := self._paths.place_of(path)).kind != "notes":
            return []
        nodes = self._notes.get((place.namespace, place.name), {})
        if len(nodes) < 2 or self.written.isdisjoint(nodes):
            return []
        best = max(nodes.values(), key=_rank)
        return [path for path, note in nodes.items() if note is not best]

    def left(self, path: str) -> Change | None:
        """A node was deleted. Returns the change, or None if a node that replaces it is there, or it was none of ours."""
        if self._paths.is_list(path):
            return None if self._lists.pop(path, None) is None else FoundList(b"")
        place = self._paths.place_of(path)
        if place.kind == "notes":
            self.written.discard(path)
            self._notes.get((place.namespace, place.name), {}).pop(path, None)
            return None
        nodes = self._records.get(place.name, {})
        if nodes.pop(path, None) is None or nodes:
            return None
        del self._records[place.name]
        return Gone(place.name)


def _rank(item: Record | Note) -> Any:
    return item.rank
