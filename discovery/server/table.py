"""What a registry holds: who has which lease, and when it runs out.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument (seconds, monotonic).
Rule 2: a lease is refreshed by its holder and by nobody else; what others say of it never counts.
Rule 3: when too many leases run out at once the fault is likely ours: they become suspect and stay.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from discovery.exceptions import DirectoryError
from discovery.model import DEFAULT_TTL, Record

#: Leases of one registry; a record takes some KiB, so this bounds the memory that strangers can take.
MAX_LEASES = 20_000
#: Bytes of all records, as they came.
MAX_BYTES = 128 * 1024 * 1024
#: Leases that one connection may hold, and bytes of their records.
MAX_LEASES_OF_HOLDER, MAX_BYTES_OF_HOLDER = 2_000, 32 * 1024 * 1024
#: Times as much as the one who asks that a connection must hold to lose a lease to it in a full registry.
MUCH_MORE = 2
#: Withdrawn instances remembered, so that an older registration still on its way does not bring them back.
MAX_WITHDRAWN = 10_000
#: Share of nodes that must renew in time; below it leases become suspect (Eureka's rule).
ENOUGH = 0.85
#: Nodes that may always go within one ttl: in a cluster of three, one that was killed is no catastrophe.
FEW = 1
#: Times its ttl that a suspect lease is kept; a ghost must go at last.
SUSPECT_TTLS = 30
#: Seconds between two looks at the clock: as a rule, and after which it was we who slept, not the holders.
LOOKS, PAUSE = 0.25, 0.5


@dataclass(frozen=True, slots=True)
class Held:
    """A record was registered, changed, or became or ceased to be suspect."""

    record: Record
    suspect: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """A record was withdrawn by its holder, or its lease ran out."""

    namespace: str
    instance: str
    rank: tuple[int, int]
    withdrawn: bool


Change = Held | Gone


class _Lease:
    __slots__ = ("heard_at", "holder", "record", "size", "suspect")

    def __init__(self, record: Record, heard_at: float, size: int, holder: bytes) -> None:
        self.record = record
        self.size = size
        self.holder = holder
        self.heard_at = heard_at
        self.suspect = False


class _Holder:
    """What one connection has registered."""

    __slots__ = ("bytes", "instances")

    def __init__(self) -> None:
        #: In the order of their registration.
        self.instances: dict[str, None] = {}
        self.bytes = 0


@dataclass(frozen=True, slots=True)
class _Withdrawn:
    """Who is gone, and until when that is remembered."""

    gone: Gone
    until: float


@dataclass(slots=True)
class _Share:
    """What a connection holds, and its instances, oldest first."""

    leases: int
    bytes: int
    instances: Iterator[str]


class Table:
    """All leases of one registry. Methods return the changes that subscribers are to be told."""

    def __init__(self, now: float, ttl: float = DEFAULT_TTL, preserve: bool = True) -> None:
        self.ttl = ttl
        self._preserve = preserve
        self._started_at = now
        self._looked_at = now
        self._bytes = 0
        self._leases: dict[str, _Lease] = {}
        self._holders: dict[bytes, _Holder] = {}
        self._withdrawn: OrderedDict[str, _Withdrawn] = OrderedDict()
        self._expired: deque[tuple[float, str]] = deque()

    def __len__(self) -> int:
        return len(self._leases)

    def is_warming(self, now: float) -> bool:
        """True for one ttl after the start: until then holders may not have found their way here."""
        return now < self._started_at + self.ttl

    def register(self, record: Record, now: float, size: int = 0, holder: bytes = b"") -> list[Change]:
        """Holds the record unless a newer one is held already. DirectoryError when the table, or its holder's share, is full.

        `holder` is the connection that asks: it holds the lease from now on.
        """
        withdrawn = self._withdrawn.get(record.instance)
        if withdrawn is not None and record.rank <= withdrawn.gone.rank:
            return []
        lease = self._leases.get(record.instance)
        if lease is not None and record.rank < lease.record.rank:
            return []
        changes = self._make_room(lease, size, holder)
        self._withdrawn.pop(record.instance, None)
        lease = self._leases.get(record.instance)  # It may have had to go itself.
        if lease is None:
            self._leases[record.instance] = lease = _Lease(record, now, size, holder)
            self._hold(lease)
            return [*changes, Held(record, False)]
        self._release(lease)
        lease.size, lease.holder = size, holder
        self._hold(lease)
        if record.namespace != lease.record.namespace:
            old = lease.record
            changes.append(Gone(old.namespace, old.instance, old.rank, withdrawn=True))
        elif record == lease.record:
            return [*changes, *self._refresh(lease, now)]
        lease.record, lease.heard_at, lease.suspect = record, now, False
        return [*changes, Held(record, False)]

    def renew(self, instance: str, rank: tuple[int, int], now: float) -> tuple[bool, list[Change]]:
        """(known, changes): known is False when the holder should register (again)."""
        lease = self._leases.get(instance)
        if lease is None:
            withdrawn = self._withdrawn.get(instance)
            return withdrawn is not None and rank <= withdrawn.gone.rank, []
        if rank < lease.record.rank:
            # A delayed message of an older version; it must not keep the newer one alive.
            return True, []
        return rank == lease.record.rank, self._refresh(lease, now)

    def withdraw(self, namespace: str, instance: str, rank: tuple[int, int], now: float) -> list[Change]:
        """Forgets the instance. All are told even if it is not held: after a restart only clients know it."""
        lease = self._leases.get(instance)
        if lease is not None:
            if rank < lease.record.rank:
                return []
            namespace = lease.record.namespace
            self._remove(lease)
        elif instance in self._withdrawn:
            return []
        gone = Gone(namespace, instance, rank, withdrawn=True)
        self._withdrawn[instance] = _Withdrawn(gone, now + self.ttl)
        while len(self._withdrawn) > MAX_WITHDRAWN:
            self._withdrawn.popitem(last=False)
        return [gone]

    def expire(self, now: float) -> list[Change]:
        """To be called every LOOKS seconds: lets leases run out, or keeps them as suspect when too many would."""
        slept = now - self._looked_at
        self._looked_at = now
        if slept > PAUSE:
            # No more than that, so that leases run out at last where every look comes late.
            self._pardon(slept - LOOKS)
        self._forget_the_past(now)
        overdue = [lease for lease in self._leases.values() if now - lease.heard_at > lease.record.ttl]
        if not overdue:
            return []
        if self._preserve and self._too_many(overdue):
            return [change for lease in overdue for change in self._suspect(lease, now)]
        return [self._drop(lease, now) for lease in overdue]

    def snapshot(self, namespace: str | None, now: float) -> list[list[Any]]:
        """[record, age, suspect] of each lease of the namespace (None: of all)."""
        entries = (self.entry(instance, now) for instance in self.instances(namespace))
        return [entry for entry in entries if entry is not None]

    def instances(self, namespace: str | None) -> list[str]:
        """Those of the namespace (None: of all) that are held."""
        if namespace is None:
            return list(self._leases)
        return [instance for instance, lease in self._leases.items() if lease.record.namespace == namespace]

    def entry(self, instance: str, now: float) -> list[Any] | None:
        """[record, age, suspect] of one lease, or None."""
        lease = self._leases.get(instance)
        return None if lease is None else [lease.record, max(0.0, now - lease.heard_at), lease.suspect]

    def withdrawn(self, namespace: str | None) -> list[Gone]:
        """Those of the namespace (None: of all) that were withdrawn within the last ttl."""
        gone = [withdrawn.gone for withdrawn in self._withdrawn.values()]
        return [one for one in gone if namespace is None or one.namespace == namespace]

    def age(self, instance: str, now: float) -> float:
        """Seconds since the holder was heard; 0 for one that is not held."""
        lease = self._leases.get(instance)
        return 0.0 if lease is None else max(0.0, now - lease.heard_at)

    def _make_room(self, lease: _Lease | None, size: int, holder: bytes) -> list[Change]:
        """Who has to go. DirectoryError when there is no room, neither in the table nor in the share of this connection."""
        more = size - (0 if lease is None else lease.size)
        own = self._holders.get(holder) or _Holder()
        is_own = lease is not None and lease.holder == holder
        leases, taken = len(own.instances) + (not is_own), own.bytes + (more if is_own else size)
        if leases > MAX_LEASES_OF_HOLDER:
            raise DirectoryError(f"one connection may hold {MAX_LEASES_OF_HOLDER} leases; this would be one more")
        if taken > MAX_BYTES_OF_HOLDER:
            raise DirectoryError(f"one connection may hold {MAX_BYTES_OF_HOLDER} bytes of records; these would be {taken}")
        is_new, grows = lease is None, more > 0
        # Nobody goes before it is known that there will be room: subscribers are not told of what a refused registration did.
        going: list[_Lease] = []
        freed = 0
        shares: list[_Share] = []
        while True:
            if is_new and len(self._leases) - len(going) >= MAX_LEASES:
                share = max(shares or self._shares(shares), key=lambda other: other.leases, default=None)
                if share is None or share.leases <= MUCH_MORE * leases:
                    raise DirectoryError(f"this registry is full: it holds {MAX_LEASES} leases")
            elif grows and self._bytes - freed + more > MAX_BYTES:
                share = max(shares or self._shares(shares), key=lambda other: other.bytes, default=None)
                if share is None or share.bytes <= MUCH_MORE * taken:
                    raise DirectoryError(f"this registry is full: its records take {self._bytes} bytes")
            else:
                return [self._give_up(victim) for victim in going]
            victim = self._leases[next(share.instances)]
            going.append(victim)
            freed += victim.size
            share.leases -= 1
            share.bytes -= victim.size

    def _shares(self, shares: list[_Share]) -> list[_Share]:
        """What each connection holds, to be counted down as its leases go; put into `shares`."""
        shares += [_Share(len(one.instances), one.bytes, iter(one.instances)) for one in self._holders.values()]
        return shares

    def _give_up(self, lease: _Lease) -> Change:
        self._remove(lease)
        return Gone(lease.record.namespace, lease.record.instance, lease.record.rank, withdrawn=False)

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

    def _refresh(self, lease: _Lease, now: float) -> list[Change]:
        lease.heard_at = now
        if not lease.suspect:
            return []
        lease.suspect = False
        return [Held(lease.record, False)]

    def _pardon(self, slept: float) -> None:
        # Stopped and continued, or starved: renewals wait in the socket, and nobody is at fault but us.
        for lease in self._leases.values():
            lease.heard_at += slept

    def _forget_the_past(self, now: float) -> None:
        while self._expired and now - self._expired[0][0] > self.ttl:
            self._expired.popleft()
        while self._withdrawn and next(iter(self._withdrawn.values())).until < now:
            self._withdrawn.popitem(last=False)

    def _too_many(self, overdue: list[_Lease]) -> bool:
        # Leases of one node go together; what expired within the last ttl is part of the same trouble.
        lost = {_node(lease.record) for lease in overdue} | {node for _, node in self._expired}
        alive = {_node(lease.record) for lease in self._leases.values()}
        return len(lost) > max(FEW, (1 - ENOUGH) * len(alive | lost))

    def _suspect(self, lease: _Lease, now: float) -> list[Change]:
        if now - lease.heard_at > SUSPECT_TTLS * lease.record.ttl:
            return [self._drop(lease, now)]
        if lease.suspect:
            return []
        lease.suspect = True
        return [Held(lease.record, True)]

    def _drop(self, lease: _Lease, now: float) -> Change:
        record = lease.record
        self._remove(lease)
        self._expired.append((now, _node(record)))
        return Gone(record.namespace, record.instance, record.rank, withdrawn=False)


def _node(record: Record) -> str:
    return record.node or record.instance
