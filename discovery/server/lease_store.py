"""The leases of a registry, found by instance and by the keys of their records.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument (seconds, monotonic).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from discovery.interest import Interest, is_of_service, keys_of, wants
from discovery.model import Record
from discovery.packing import pack
from discovery.record_blocks import Entry

#: A namespace and a key.
Place = tuple[str, str]


class Lease:
    """A listed record. `holder`: the connection that renews it. `last_contact`: when it was last renewed. `size`: in bytes."""

    __slots__ = ("_packed", "holder", "keys", "last_contact", "record", "size", "suspect")

    def __init__(self, record: Record, last_contact: float, size: int, holder: bytes) -> None:
        self.change(record)
        self.size = size
        self.holder = holder
        self.last_contact = last_contact
        self.suspect = False

    def change(self, record: Record) -> None:
        """Replaces the record by another version."""
        self.record = record
        self.keys = keys_of(record)
        self._packed = b""

    def packed(self) -> bytes:
        """The record as msgpack, packed once for all clients that are sent it."""
        if not self._packed:
            self._packed = pack(self.record.to_dict())
        return self._packed


class LeaseStore:
    """All leases, and the answers to the questions of clients."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        #: The instances at each place, in the order in which they came.
        self._by_key: dict[Place, dict[str, None]] = {}
        #: A number for each place, which changes with everything that is listed there.
        self._revisions: dict[Place, int] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._leases)

    # --- questions of clients ---

    def snapshot(self, namespace: str | None, now: float) -> list[list[Any]]:
        """[record, age, suspect] of each lease of the namespace (None: of all namespaces)."""
        entries = (self.entry(instance, now) for instance in self.instances(namespace))
        return [entry for entry in entries if entry is not None]

    def instances(self, namespace: str | None, interest: Interest = None) -> list[str]:
        """The listed instances of the namespace (None: of all namespaces) that are of interest."""
        if namespace is None:
            return [instance for instance, lease in self._leases.items() if wants(interest, lease.record)]
        if interest is None:
            return [instance for instance, lease in self._leases.items() if lease.record.namespace == namespace]
        found: dict[str, None] = {}
        for key in interest:
            found.update(self._by_key.get((namespace, key), {}))
        return list(found)

    def places(self, namespace: str | None, interest: Interest = None) -> list[Place]:
        """The services of the namespace (None: of all namespaces) that are of interest and have a record."""
        if namespace is None or interest is None:
            return [
                (of, key) for of, key in self._by_key
                if namespace in (None, of) and is_of_service(key) and (interest is None or key in interest)
            ]  # fmt: skip
        return [(namespace, key) for key in interest if is_of_service(key) and (namespace, key) in self._by_key]

    def instances_beside(self, namespace: str | None, interest: Interest) -> list[str]:
        """The listed instances whose subscriptions are of interest and whose service is not."""
        others = frozenset[str]() if interest is None else frozenset(key for key in interest if not is_of_service(key))
        if interest is None or not others:
            return []
        return [one for one in self.instances(namespace, others) if self._leases[one].keys[0] not in interest]

    def revision(self, place: Place) -> int | None:
        """A number that changes with everything that is listed there, except ages; None if nothing is listed."""
        return self._revisions.get(place)

    def listing(self, place: Place, now: float) -> Iterator[Entry]:
        """The entries for the blocks of a place."""
        for instance in self._by_key.get(place, ()):
            lease = self._leases[instance]
            line = [instance, *lease.record.rank, max(0.0, now - lease.last_contact), lease.suspect]
            yield lease.keys, line, lease.packed()

    def entry(self, instance: str, now: float) -> list[Any] | None:
        """[record, age, suspect] of one lease; None if the instance is not listed."""
        lease = self._leases.get(instance)
        return None if lease is None else [lease.record, max(0.0, now - lease.last_contact), lease.suspect]

    def packed(self, instance: str, now: float) -> tuple[bytes, float, bool] | None:
        """Like `entry`, with the record as msgpack."""
        lease = self._leases.get(instance)
        return None if lease is None else (lease.packed(), max(0.0, now - lease.last_contact), lease.suspect)

    def namespace_of(self, instance: str) -> str | None:
        """The namespace of a listed instance."""
        lease = self._leases.get(instance)
        return None if lease is None else lease.record.namespace

    # --- changes ---

    def _add(self, lease: Lease) -> None:
        self._leases[lease.record.instance] = lease
        self._index(lease)

    def _remove(self, lease: Lease) -> None:
        del self._leases[lease.record.instance]
        self._unindex(lease)

    def _replace(self, lease: Lease, record: Record) -> None:
        """Another version of the record is listed."""
        self._unindex(lease)
        lease.change(record)
        self._index(lease)

    def _index(self, lease: Lease) -> None:
        for key in lease.keys:
            self._by_key.setdefault((lease.record.namespace, key), {})[lease.record.instance] = None
        self._has_changed(lease)

    def _has_changed(self, lease: Lease) -> None:
        for key in lease.keys:
            self._revisions[lease.record.namespace, key] = next(self._numbers)

    def _unindex(self, lease: Lease) -> None:
        for key in lease.keys:
            place = (lease.record.namespace, key)
            found = self._by_key[place]
            del found[lease.record.instance]
            if found:
                self._revisions[place] = next(self._numbers)
            else:
                del self._by_key[place], self._revisions[place]
