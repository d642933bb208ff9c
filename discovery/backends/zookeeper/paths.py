"""The paths of ZooKeeper's nodes: where each record, note, lock and list has its node, and what a path means.

Rule 1: no sockets, no threads, no clock here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote, unquote

from discovery.backends.keyspace import REVOKED
from discovery.interest import Interest, sources_of, split
from discovery.model import Note, Record
from discovery.security.revocations import Revocations


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A path in words. `kind`: records, subscribers or notes. `folder`: the service or source; empty for a note.

    `name`: the instance, or the key of a note.
    """

    namespace: str
    kind: str
    folder: str
    name: str


class ZooKeeperPaths:
    """The paths below a prefix. `namespace`: None is all of them. `is_closed`: lists of revoked certificates are read as well."""

    def __init__(self, prefix: str, namespace: str | None, is_closed: bool) -> None:
        self.base = "".join(f"/{_part(part)}" for part in prefix.split("/"))
        self.revoked = f"{self.base}/{REVOKED}"
        self._namespace = namespace
        self._is_closed = is_closed

    # --- where each thing has its node ---

    def _of(self, namespace: str) -> str:
        return f"{self.base}/{_part(namespace)}"

    def folders(self, keys: frozenset[str]) -> set[str]:
        """The nodes whose children are the records of these keys of an interest."""
        assert self._namespace is not None
        root = self._of(self._namespace)
        return {f"{root}/{'records' if is_service else 'subscribers'}/{_part(name)}" for is_service, name in map(split, keys)}

    def of_record(self, record: Record) -> list[str]:
        """The nodes of a record. The first one is under its service."""
        root, name = self._of(record.namespace), f"{_part(record.instance)};{record.incarnation}.{record.version}"
        sources = [f"{root}/subscribers/{_part(source)}/{name}" for source in sorted(sources_of(record))]
        return [f"{root}/records/{_part(record.service)}/{name}", *sources]

    def of_note(self, note: Note, value: bytes) -> str:
        """The node of a note with this packed value."""
        digest = hashlib.sha256(value).hexdigest()[:8]
        return f"{self._of(note.namespace)}/notes/{_part(note.key)};{note.stamp}.{digest}"

    def of_list(self, revoked: Revocations, attempt: int) -> str:
        """The node of a list of revoked certificates; another one for each attempt."""
        digest = hashlib.sha256(revoked.signed + bytes([attempt])).hexdigest()[:8]
        return f"{self.revoked}/{revoked.authority.hex()};{revoked.number}.{digest}"

    def of_lock(self, namespace: str, name: str) -> str:
        """The node of a lock."""
        return f"{self._of(namespace)}/locks/{_part(name)}"

    # --- where reading begins ---

    def lasting(self) -> list[str]:
        """The persistent nodes that a client needs before it reads."""
        made = [self.revoked] if self._is_closed else []
        if self._namespace is None:
            return [*made, self.base]
        return [*made, *(f"{self._of(self._namespace)}/{name}" for name in ("records", "notes"))]

    def roots(self, interest: Interest) -> set[str]:
        """The nodes from which a client of this interest reads downwards."""
        if self._namespace is None:
            return {self.base}
        root = self._of(self._namespace)
        common = {f"{root}/notes", self.revoked} if self._is_closed else {f"{root}/notes"}
        return common | ({f"{root}/records"} if interest is None else self.folders(interest))

    # --- what a path means ---

    def _parts(self, path: str) -> list[str]:
        """The parts below the prefix."""
        return path[len(self.base) + 1 :].split("/") if path != self.base else []

    def is_folder(self, path: str) -> bool:
        """Whether the children of this node have children. Otherwise the children are records, notes or lists."""
        parts = self._parts(path)
        return parts != [REVOKED] and (len(parts) < 2 or (len(parts) == 2 and parts[1] == "records"))

    def is_read(self, path: str) -> bool:
        """Whether a client that reads downwards goes on with this node."""
        parts = self._parts(path)
        if parts == [REVOKED]:
            return self._is_closed
        return len(parts) != 2 or parts[1] in ("records", "notes")

    def is_needed(self, path: str) -> bool:
        """Whether a client cannot watch any further when this node is deleted."""
        parts = self._parts(path)
        return path == self.base or parts == [REVOKED] or (self._namespace is not None and len(parts) == 2)

    def is_list(self, path: str) -> bool:
        """Whether this is the node of a list of revoked certificates."""
        return self._parts(path)[0] == REVOKED

    def is_list_of(self, path: str, authority: bytes) -> bool:
        """Whether this is the node of a list of this authority."""
        return self._parts(path)[1].startswith(f"{authority.hex()};")

    def place_of(self, path: str) -> NodePlace:
        """What the node of a record or note is about."""
        namespace, kind, *folders, last = (unquote(part) for part in self._parts(path))
        return NodePlace(namespace, kind, folders[0] if folders else "", last.rpartition(";")[0])


def _part(text: str) -> str:
    """One part of a path. ZooKeeper allows no nodes with the names `.` and `..`."""
    return "%2E" * len(text) if text in (".", "..") else quote(text, safe="")
