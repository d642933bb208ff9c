"""The leases of a registry: which records are listed, and when they expire.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument (seconds, monotonic).
Rule 2: only its holder renews a lease.
Rule 3: when too many leases run out at once, the fault is probably the registry's own: they become suspect and stay.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from discovery import protocol
from discovery.exceptions import DirectoryError
from discovery.interest import MAX_SOURCES, Interest, is_of_service, keys_of, sources_of, wants
from discovery.model import DEFAULT_TTL, Record
from discovery.record_blocks import Entry

#: Leases of one registry. A record takes some KiB, so this bounds the memory that hostile clients can use.
MAX_LEASES = 20_000
#: Bytes of all records as they were received.
MAX_BYTES = 128 * 1024 * 1024
#: Leases that one connection may hold, and bytes of their records.
MAX_LEASES_OF_HOLDER, MAX_BYTES_OF_HOLDER = 2_000, 32 * 1024 * 1024
#: In a full registry, a connection loses leases to another one if it holds more than so many times as much.
MUCH_MORE = 2
#: Tombstones of withdrawn instances, so that a delayed registration does not bring them back.
MAX_TOMBSTONES = 10_000
#: Share of nodes that must renew in time; below it leases become suspect (Eureka's rule).
ENOUGH = 0.85
#: Nodes that may always expire within one ttl: in a cluster of three, one killed node is normal.
FEW = 1
#: A suspect lease is kept for so many times its ttl, and then removed.
SUSPECT_TTLS = 30
#: Seconds between two calls of `expire`: as a rule, and from where on this process slept, not the holders.
CHECK_INTERVAL, PAUSE = 0.25, 0.5


@dataclass(frozen=True, slots=True)
class Updated:
    """A record was registered or changed, became suspect, or is not suspect any more.

    `keys`: those of the record, and those that it had before, so that whoever saw it learns of its change.
    """

    record: Record
    suspect: bool
    keys: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Removed:
    """A record was withdrawn by its holder, or its lease expired. `keys`: those that it had; None where nobody knows them."""

    namespace: str
    instance: str
    rank: tuple[int, int]
    withdrawn: bool
    keys: tuple[str, ...] | None = field(default=None, compare=False)
    #: The withdrawal as its holder signed it.
    signed: bytes | None = field(default=None, compare=False, repr=False)


Change = Updated | Removed
#: A namespace and a key.
Place = tuple[str, str]


class _Lease:
    __slots__ = ("_packed", "holder", "keys", "last_contact", "record", "size", "suspect")

    def __init__(self, record: Record, last_contact: float, size: int, holder: bytes) -> None:
        self.change(record)
        self.size = size
        self.holder = holder
        self.last_contact = last_contact
        self.suspect = False

    def change(self, record: Record) -> None:
        """The record is replaced by another version."""
        self.record = record
        self.keys = keys_of(record)
        self._packed = b""

    def packed(self) -> bytes:
        """The record as msgpack, made once for all who are sent it."""
        if not self._packed:
            self._packed = protocol.pack(self.record.to_dict())
        return self._packed


class _Holder:
    """The leases of one connection."""

    __slots__ = ("bytes", "instances")

    def __init__(self) -> None:
        #: In the order of their registration.
        self.instances: dict[str, None] = {}
        self.bytes = 0


@dataclass(frozen=True, slots=True)
class _Tombstone:
    """A withdrawn instance, and until when it is kept."""

    gone: Removed
    until: float


@dataclass(slots=True)
class _Share:
    """What a connection holds, counted down while victims are chosen, and its instances, oldest first."""

    leases: int
    bytes: int
    instances: Iterator[str]


class Table:
    """All leases of one registry. Methods return the changes for the subscribers."""

    def __init__(
        self,
        now: float,
        ttl: float = DEFAULT_TTL,
        preserve: bool = True,
        max_leases: int | None = None,
        max_leases_of_holder: int | None = None,
        max_bytes: int | None = None,
        max_bytes_of_holder: int | None = None,
    ) -> None:
        self.ttl = ttl
        self._max_leases = MAX_LEASES if max_leases is None else max_leases
        self._max_leases_of_holder = MAX_LEASES_OF_HOLDER if max_leases_of_holder is None else max_leases_of_holder
        self._max_bytes = MAX_BYTES if max_bytes is None else max_bytes
        self._max_bytes_of_holder = MAX_BYTES_OF_HOLDER if max_bytes_of_holder is None else max_bytes_of_holder
        self._preserve = preserve
        self._started_at = now
        self._looked_at = now
        self._bytes = 0
        self._leases: dict[str, _Lease] = {}
        #: The instances under each key of a namespace, in the order in which they came.
        self._by_key: dict[Place, dict[str, None]] = {}
        #: A number for each of these places, which is another one after each change of what is listed there.
        self._revisions: dict[Place, int] = {}
        self._numbers = itertools.count()
        self._holders: dict[bytes, _Holder] = {}
        self._tombstones: OrderedDict[str, _Tombstone] = OrderedDict()
        self._expired: deque[tuple[float, str]] = deque()

    def __len__(self) -> int:
        return len(self._leases)

    def is_warming(self, now: float) -> bool:
        """True for one ttl after the start: until then holders may not have registered yet."""
        return now < self._started_at + self.ttl

    def register(self, record: Record, now: float, size: int = 0, holder: bytes = b"") -> list[Change]:
        """Lists the record, unless a newer one is listed. DirectoryError when the table or the holder's share is full, or
        the record subscribes to more than MAX_SOURCES sources.

        `holder` is the connection that registers: it holds the lease from now on. `size`: bytes of the record.
        """
        withdrawn = self._tombstones.get(record.instance)
        if withdrawn is not None and record.rank <= withdrawn.gone.rank:
            return []
        lease = self._leases.get(record.instance)
        if lease is not None and record.rank < lease.record.rank:
            return []
        if len(record.subscriptions) > MAX_SOURCES and len(sources_of(record)) > MAX_SOURCES:
            raise DirectoryError(f"a record may subscribe to events of {MAX_SOURCES} sources; {record.instance!r} does of more")
        changes = self._make_room(lease, size, holder)
        self._tombstones.pop(record.instance, None)
        lease = self._leases.get(record.instance)  # It may have been evicted itself.
        if lease is None:
            self._leases[record.instance] = lease = _Lease(record, now, size, holder)
            self._hold(lease)
            self._index(lease)
            return [*changes, Updated(record, False, lease.keys)]
        self._release(lease)
        lease.size, lease.holder = size, holder
        self._hold(lease)
        former = lease.keys
        if record.namespace != lease.record.namespace:
            old = lease.record
            changes.append(Removed(old.namespace, old.instance, old.rank, withdrawn=True, keys=former))
            former = ()
        elif record == lease.record and record.signed == lease.record.signed:
            return [*changes, *self._refresh(lease, now)]
        self._unindex(lease)
        lease.change(record)
        self._index(lease)
        lease.last_contact, lease.suspect = now, False
        return [*changes, Updated(record, False, _both(former, lease.keys))]

    def renew(self, instance: str, rank: tuple[int, int], now: float) -> tuple[bool, list[Change]]:
        """Renews a lease. Returns (known, changes); known is False when the holder should register again."""
        lease = self._leases.get(instance)
        if lease is None:
            withdrawn = self._tombstones.get(instance)
            return withdrawn is not None and rank <= withdrawn.gone.rank, []
        if rank < lease.record.rank:
            # A delayed message about an older version must not renew the newer one.
            return True, []
        return rank == lease.record.rank, self._refresh(lease, now)

    def withdraw(
        self, namespace: str, instance: str, rank: tuple[int, int], now: float, signed: bytes | None = None
    ) -> list[Change]:
        """Removes the instance. Subscribers are told even if it is not listed: after a restart only clients know it."""
        lease = self._leases.get(instance)
        keys = None
        if lease is not None:
            if rank < lease.record.rank:
                return []
            namespace, keys = lease.record.namespace, lease.keys
            self._remove(lease)
        elif instance in self._tombstones:
            return []
        gone = Removed(namespace, instance, rank, withdrawn=True, keys=keys, signed=signed)
        self._tombstones[instance] = _Tombstone(gone, now + self.ttl)
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)
        return [gone]

    def expire(self, now: float) -> list[Change]:
        """Removes expired leases, or marks them suspect when there are too many. Call it every CHECK_INTERVAL seconds."""
        slept = now - self._looked_at
        self._looked_at = now
        if slept > PAUSE:
            # Minus one interval, so that leases expire even if every call comes late.
            self._extend_all(slept - CHECK_INTERVAL)
        self._drop_old_entries(now)
        overdue = [lease for lease in self._leases.values() if now - lease.last_contact > lease.record.ttl]
        if not overdue:
            return []
        if self._preserve and self._too_many(overdue):
            return [change for lease in overdue for change in self._suspect(lease, now)]
        return [self._drop(lease, now) for lease in overdue]

    def snapshot(self, namespace: str | None, now: float) -> list[list[Any]]:
        """[record, age, suspect] of each lease of the namespace (None: of all namespaces)."""
        entries = (self.entry(instance, now) for instance in self.instances(namespace))
        return [entry for entry in entries if entry is not None]

    def instances(self, namespace: str | None, interest: Interest = None) -> list[str]:
        """The listed instances of the namespace (None: of all namespaces), as far as they are of interest."""
        if namespace is None:
            return [instance for instance, lease in self._leases.items() if wants(interest, lease.record)]
        if interest is None:
            return [instance for instance, lease in self._leases.items() if lease.record.namespace == namespace]
        found: dict[str, None] = {}
        for key in interest:
            found.update(self._by_key.get((namespace, key), {}))
        return list(found)

    def places(self, namespace: str | None, interest: Interest = None) -> list[Place]:
        """The services of the namespace (None: of all namespaces) that are of interest, and have a record."""
        if namespace is None or interest is None:
            return [
                (of, key) for of, key in self._by_key
                if namespace in (None, of) and is_of_service(key) and (interest is None or key in interest)
            ]  # fmt: skip
        return [(namespace, key) for key in interest if is_of_service(key) and (namespace, key) in self._by_key]

    def instances_beside(self, namespace: str | None, interest: Interest) -> list[str]:
        """The listed instances that are of interest for their subscriptions alone, and not for their service."""
        others = frozenset[str]() if interest is None else frozenset(key for key in interest if not is_of_service(key))
        if interest is None or not others:
            return []
        return [one for one in self.instances(namespace, others) if self._leases[one].keys[0] not in interest]

    def revision(self, place: Place) -> int | None:
        """A number that is another one after each change there, except of ages; None where nothing is listed."""
        return self._revisions.get(place)

    def listing(self, place: Place, now: float) -> Iterator[Entry]:
        """What is listed at a place, for blocks."""
        for instance in self._by_key.get(place, ()):
            lease = self._leases[instance]
            line = [instance, *lease.record.rank, max(0.0, now - lease.last_contact), lease.suspect]
            yield lease.keys, line, lease.packed()

    def entry(self, instance: str, now: float) -> list[Any] | None:
        """[record, age, suspect] of one lease, or None if the instance is not listed."""
        lease = self._leases.get(instance)
        return None if lease is None else [lease.record, max(0.0, now - lease.last_contact), lease.suspect]

    def packed(self, instance: str, now: float) -> tuple[bytes, float, bool] | None:
        """As `entry`, with the record as msgpack."""
        lease = self._leases.get(instance)
        return None if lease is None else (lease.packed(), max(0.0, now - lease.last_contact), lease.suspect)

    def namespace_of(self, instance: str) -> str | None:
        """The namespace of a listed instance."""
        lease = self._leases.get(instance)
        return None if lease is None else lease.record.namespace

    def tombstones(self, namespace: str | None, interest: Interest = None) -> list[Removed]:
        """The instances of the namespace (None: of all) and of interest that were withdrawn within the last ttl."""
        gone = [withdrawn.gone for withdrawn in self._tombstones.values()]
        return [
            one
            for one in gone
            if namespace in (None, one.namespace)
            and (interest is None or one.keys is None or not interest.isdisjoint(one.keys))
        ]

    def _make_room(self, lease: _Lease | None, size: int, holder: bytes) -> list[Change]:
        """Evicts leases to make room, and returns the changes. DirectoryError when there is no room to make."""
        more = size - (0 if lease is None else lease.size)
        own = self._holders.get(holder) or _Holder()
        is_own = lease is not None and lease.holder == holder
        leases, taken = len(own.instances) + (not is_own), own.bytes + (more if is_own else size)
        most, most_of_holder = self._max_leases, self._max_leases_of_holder
        if leases > most_of_holder:
            raise DirectoryError(f"one connection may hold {most_of_holder} leases; this would be one more")
        if taken > self._max_bytes_of_holder:
            raise DirectoryError(f"one connection may hold {self._max_bytes_of_holder} bytes of records; these would be {taken}")
        is_new, grows = lease is None, more > 0
        # All victims are chosen before the first is evicted, so that a refused registration changes nothing.
        going: list[_Lease] = []
        freed = 0
        shares: list[_Share] = []
        while True:
            if is_new and len(self._leases) - len(going) >= most:
                share = max(shares or self._shares(shares), key=lambda other: other.leases, default=None)
                if share is None or share.leases <= MUCH_MORE * leases:
                    raise DirectoryError(f"this registry is full: it holds {most} leases")
            elif grows and self._bytes - freed + more > self._max_bytes:
                share = max(shares or self._shares(shares), key=lambda other: other.bytes, default=None)
                if share is None or share.bytes <= MUCH_MORE * taken:
                    raise DirectoryError(f"this registry is full: its records take {self._bytes} bytes")
            else:
                return [self._evict(victim) for victim in going]
            victim = self._leases[next(share.instances)]
            going.append(victim)
            freed += victim.size
            share.leases -= 1
            share.bytes -= victim.size

    def _shares(self, shares: list[_Share]) -> list[_Share]:
        """Fills `shares` with what each connection holds."""
        shares += [_Share(len(one.instances), one.bytes, iter(one.instances)) for one in self._holders.values()]
        return shares

    def _evict(self, lease: _Lease) -> Change:
        self._remove(lease)
        return Removed(lease.record.namespace, lease.record.instance, lease.record.rank, withdrawn=False, keys=lease.keys)

    def _hold(self, lease: _Lease) -> None:
        holder = self._holders.setdefault(lease.holder, _Holder())
        holder.instances[lease.record.instance] = None
        holder.bytes += lease.size
        self._bytes += lease.size

    def _release(self, lease: _Lease) -> None:
        holder = self._holders[lease.holder]
        del holder.instances[lease.record.instance]
        holder.bytes -= lease.size
        self._bytes -= lease.size
        if not holder.instances:
            del self._holders[lease.holder]

    def _remove(self, lease: _Lease) -> None:
        del self._leases[lease.record.instance]
        self._release(lease)
        self._unindex(lease)

    def _index(self, lease: _Lease) -> None:
        for key in lease.keys:
            self._by_key.setdefault((lease.record.namespace, key), {})[lease.record.instance] = None
        self._has_changed(lease)

    def _has_changed(self, lease: _Lease) -> None:
        for key in lease.keys:
            self._revisions[lease.record.namespace, key] = next(self._numbers)

    def _unindex(self, lease: _Lease) -> None:
        for key in lease.keys:
            place = (lease.record.namespace, key)
            found = self._by_key[place]
            del found[lease.record.instance]
            if found:
                self._revisions[place] = next(self._numbers)
            else:
                del self._by_key[place], self._revisions[place]

    def _refresh(self, lease: _Lease, now: float) -> list[Change]:
        lease.last_contact = now
        if not lease.suspect:
            return []
        lease.suspect = False
        self._has_changed(lease)
        return [Updated(lease.record, False, lease.keys)]

    def _extend_all(self, slept: float) -> None:
        # This process was stopped or starved: renewals wait in the socket, and the holders are not at fault.
        for lease in self._leases.values():
            lease.last_contact += slept

    def _drop_old_entries(self, now: float) -> None:
        while self._expired and now - self._expired[0][0] > self.ttl:
            self._expired.popleft()
        while self._tombstones and next(iter(self._tombstones.values())).until < now:
            self._tombstones.popitem(last=False)

    def _too_many(self, overdue: list[_Lease]) -> bool:
        # Leases of one node expire together, and those of the last ttl probably for the same reason.
        lost = {_node(lease.record) for lease in overdue} | {node for _, node in self._expired}
        alive = {_node(lease.record) for lease in self._leases.values()}
        return len(lost) > max(FEW, (1 - ENOUGH) * len(alive | lost))

    def _suspect(self, lease: _Lease, now: float) -> list[Change]:
        if now - lease.last_contact > SUSPECT_TTLS * lease.record.ttl:
            return [self._drop(lease, now)]
        if lease.suspect:
            return []
        lease.suspect = True
        self._has_changed(lease)
        return [Updated(lease.record, True, lease.keys)]

    def _drop(self, lease: _Lease, now: float) -> Change:
        record = lease.record
        self._remove(lease)
        self._expired.append((now, _node(record)))
        return Removed(record.namespace, record.instance, record.rank, withdrawn=False, keys=lease.keys)


def _both(former: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    return now if former == now else (*now, *(key for key in former if key not in now))


def _node(record: Record) -> str:
    return record.node or record.instance
