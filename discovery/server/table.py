"""The table of a registry: which records are listed, and when their leases expire.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument (seconds, monotonic).
Rule 2: only its holder renews a lease.
Rule 3: when too many leases run out at once, the fault is probably the registry's own. They become suspect and stay.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from discovery.exceptions import DirectoryError
from discovery.interest import MAX_SOURCES, Interest, sources_of
from discovery.model import DEFAULT_TTL, Record
from discovery.server.changes import Change, Removed, Updated
from discovery.server.lease_store import Lease, LeaseStore
from discovery.server.shares import Shares

#: Tombstones of withdrawn instances, so that a delayed registration does not bring them back.
MAX_TOMBSTONES = 10_000
#: The share of nodes that must renew in time. Below it, leases become suspect (Eureka's rule).
ENOUGH = 0.85
#: Nodes that may always expire within one ttl: in a cluster of three, one killed node is normal.
FEW = 1
#: A suspect lease is kept for this many times its ttl, and then removed.
SUSPECT_TTLS = 30
#: Seconds between two calls of `expire`; after more than PAUSE seconds, this process has slept, and not the holders.
CHECK_INTERVAL, PAUSE = 0.25, 0.5


@dataclass(frozen=True, slots=True)
class _Tombstone:
    """A withdrawn instance, and the time until which it is remembered."""

    gone: Removed
    until: float


class Table(LeaseStore):
    """All leases of one registry. The methods that change it return the changes for the subscribers.

    `ttl`: seconds of the warm-up, and for which withdrawn instances are remembered. `preserve`: whether rule 3 holds.
    The bounds are explained in `shares`.
    """

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
        super().__init__()
        self.ttl = ttl
        self._shares = Shares(max_leases, max_leases_of_holder, max_bytes, max_bytes_of_holder)
        self._preserve = preserve
        self._started_at = now
        self._looked_at = now
        self._tombstones: OrderedDict[str, _Tombstone] = OrderedDict()
        self._expired: deque[tuple[float, str]] = deque()

    def is_warming(self, now: float) -> bool:
        """True for one ttl after the start, in which holders may not have registered again yet."""
        return now < self._started_at + self.ttl

    def register(self, record: Record, now: float, size: int = 0, holder: bytes = b"") -> list[Change]:
        """Lists the record, unless a newer version is listed.

        `holder`: the connection that registers, and that holds the lease from now on. `size`: bytes of the record.
        DirectoryError when the table or the holder's share is full, or the record subscribes to more than MAX_SOURCES sources.
        """
        withdrawn = self._tombstones.get(record.instance)
        if withdrawn is not None and record.rank <= withdrawn.gone.rank:
            return []
        lease = self._leases.get(record.instance)
        if lease is not None and record.rank < lease.record.rank:
            return []
        if len(record.subscriptions) > MAX_SOURCES and len(sources_of(record)) > MAX_SOURCES:
            raise DirectoryError(
                f"a record may subscribe to events of {MAX_SOURCES} sources; {record.instance!r} subscribes to more"
            )
        changes: list[Change] = [self._evict(victim) for victim in self._shares.victims(self._leases, lease, size, holder)]
        self._tombstones.pop(record.instance, None)
        lease = self._leases.get(record.instance)  # The lease itself may have been evicted.
        if lease is None:
            lease = Lease(record, now, size, holder)
            self._shares.hold(lease)
            self._add(lease)
            return [*changes, Updated(record, False, lease.keys)]
        self._shares.release(lease)
        lease.size, lease.holder = size, holder
        self._shares.hold(lease)
        former = lease.keys
        if record.namespace != lease.record.namespace:
            old = lease.record
            changes.append(Removed(old.namespace, old.instance, old.rank, withdrawn=True, keys=former))
            former = ()
        elif record == lease.record and record.signed == lease.record.signed:
            return [*changes, *self._refresh(lease, now)]
        self._replace(lease, record)
        lease.last_contact, lease.suspect = now, False
        return [*changes, Updated(record, False, _both(former, lease.keys))]

    def renew(self, instance: str, rank: tuple[int, int], now: float) -> tuple[bool, list[Change]]:
        """Renews a lease. Returns (known, changes). If `known` is False, the holder should register again."""
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
            self._take_out(lease)
        elif instance in self._tombstones:
            return []
        gone = Removed(namespace, instance, rank, withdrawn=True, keys=keys, signed=signed)
        self._tombstones[instance] = _Tombstone(gone, now + self.ttl)
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)
        return [gone]

    def expire(self, now: float) -> list[Change]:
        """Removes expired leases, or marks them suspect if there are too many. To be called every CHECK_INTERVAL seconds."""
        slept = now - self._looked_at
        self._looked_at = now
        if slept > PAUSE:
            # Without one interval, so that leases expire even if every call comes late.
            self._extend_all(slept - CHECK_INTERVAL)
        self._drop_old_entries(now)
        overdue = [lease for lease in self._leases.values() if now - lease.last_contact > lease.record.ttl]
        if not overdue:
            return []
        if self._preserve and self._too_many(overdue):
            return [change for lease in overdue for change in self._suspect(lease, now)]
        return [self._drop(lease, now) for lease in overdue]

    def tombstones(self, namespace: str | None, interest: Interest = None) -> list[Removed]:
        """The instances of the namespace (None: of all) that are of interest and were withdrawn within the last ttl."""
        gone = [withdrawn.gone for withdrawn in self._tombstones.values()]
        return [
            one
            for one in gone
            if namespace in (None, one.namespace)
            and (interest is None or one.keys is None or not interest.isdisjoint(one.keys))
        ]

    def _evict(self, lease: Lease) -> Change:
        self._take_out(lease)
        return Removed(lease.record.namespace, lease.record.instance, lease.record.rank, withdrawn=False, keys=lease.keys)

    def _take_out(self, lease: Lease) -> None:
        self._shares.release(lease)
        self._remove(lease)

    def _refresh(self, lease: Lease, now: float) -> list[Change]:
        lease.last_contact = now
        if not lease.suspect:
            return []
        lease.suspect = False
        self._has_changed(lease)
        return [Updated(lease.record, False, lease.keys)]

    def _extend_all(self, slept: float) -> None:
        # This process was stopped or got no CPU: renewals wait in its socket, and the holders are not at fault.
        for lease in self._leases.values():
            lease.last_contact += slept

    def _drop_old_entries(self, now: float) -> None:
        while self._expired and now - self._expired[0][0] > self.ttl:
            self._expired.popleft()
        while self._tombstones and next(iter(self._tombstones.values())).until < now:
            self._tombstones.popitem(last=False)

    def _too_many(self, overdue: list[Lease]) -> bool:
        # The leases of one node count once. Those that expired within the last ttl probably did for the same reason.
        lost = {_node(lease.record) for lease in overdue} | {node for _, node in self._expired}
        alive = {_node(lease.record) for lease in self._leases.values()}
        return len(lost) > max(FEW, (1 - ENOUGH) * len(alive | lost))

    def _suspect(self, lease: Lease, now: float) -> list[Change]:
        if now - lease.last_contact > SUSPECT_TTLS * lease.record.ttl:
            return [self._drop(lease, now)]
        if lease.suspect:
            return []
        lease.suspect = True
        self._has_changed(lease)
        return [Updated(lease.record, True, lease.keys)]

    def _drop(self, lease: Lease, now: float) -> Change:
        record = lease.record
        self._take_out(lease)
        self._expired.append((now, _node(record)))
        return Removed(record.namespace, record.instance, record.rank, withdrawn=False, keys=lease.keys)


def _both(former: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    return now if former == now else (*now, *(key for key in former if key not in now))


def _node(record: Record) -> str:
    return record.node or record.instance
