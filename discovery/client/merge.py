"""Several registries that know nothing of each other, merged into one view.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument (seconds, monotonic).
Rule 2: of two versions of a record the higher rank wins, wherever it came from.
Rule 3: a record leaves when its holder withdrew it, or when some registry is connected and past its warm-up
and no connected registry lists it. What a registry listed when contact with it was lost stays a ttl longer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from discovery.model import Record

#: Withdrawn instances remembered, so that a registry that has not heard of it yet does not bring them back.
MAX_WITHDRAWN = 10_000
#: Share of its ttl that a holder may be silent when it renews in time: a third, and a fifth for jitter.
IN_TIME = 0.4


@dataclass(frozen=True, slots=True)
class MergedRecord:
    """A record as one registry lists it; `heard_at`, on our clock, is when its holder was heard there."""

    record: Record
    heard_at: float
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """A record as all registries together list it; `listed_by` are those that do so now."""

    record: Record
    heard_at: float
    suspect: bool
    listed_by: tuple[str, ...]


@dataclass(slots=True)
class _Replica:
    entries: dict[str, MergedRecord] = field(default_factory=dict)
    is_connected: bool = False
    is_warm: bool = False
    lost_at: float | None = None


class Merge:
    """What a client knows. Tell it what happened at each registry, then ask `settle` what that changed."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self._replicas: dict[str, _Replica] = {}
        self._withdrawn: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._dirty: set[str] = set()
        self._in_grace: set[str] = set()
        self._remembered: set[str] = set()

    @property
    def is_fresh(self) -> bool:
        """Some registry is connected and past its warm-up."""
        return any(replica.is_connected and replica.is_warm for replica in self._replicas.values())

    def remember(self, entries: Iterable[MergedRecord]) -> None:
        """Records of an earlier run, believed until a registry that is warm says otherwise."""
        for entry in entries:
            self.known.setdefault(
                entry.record.instance, Known(entry.record, entry.heard_at, entry.suspect, ())
            )
            self._remembered.add(entry.record.instance)

    def snapshot(self, registry: str, entries: Iterable[MergedRecord], warming: bool) -> None:
        """A registry is connected, and this is all that it lists."""
        replica = self._replicas.setdefault(registry, _Replica())
        replica.entries = {entry.record.instance: entry for entry in entries}
        replica.is_connected, replica.is_warm, replica.lost_at = True, not warming, None
        self._all_dirty()

    def update(self, registry: str, entry: MergedRecord) -> None:
        """A connected registry lists a record anew or changed."""
        self._replicas[registry].entries[entry.record.instance] = entry
        self._dirty.add(entry.record.instance)

    def drop(self, registry: str, instance: str, rank: tuple[int, int], withdrawn: bool) -> None:
        """A connected registry no longer lists an instance; `withdrawn`: nobody does, its holder said so."""
        replica = self._replicas.get(registry)
        if replica is not None:
            replica.entries.pop(instance, None)
        if withdrawn:
            self._withdrawn[instance] = max(rank, self._withdrawn.get(instance, rank))
            self._withdrawn.move_to_end(instance)
            while len(self._withdrawn) > MAX_WITHDRAWN:
                self._withdrawn.popitem(last=False)
        self._dirty.add(instance)

    def warmed(self, registry: str, warming: bool) -> None:
        """A connected registry said whether it is still warming."""
        replica = self._replicas.get(registry)
        if replica is not None and replica.is_warm is warming:
            replica.is_warm = not warming
            self._all_dirty()

    def lost(self, registry: str, now: float) -> None:
        """Contact with a registry was lost; what it listed is remembered."""
        replica = self._replicas.get(registry)
        if replica is not None and replica.is_connected:
            replica.is_connected, replica.lost_at = False, now
            self._all_dirty()

    def forget(self, registry: str) -> None:
        """A registry is no longer one of ours."""
        if self._replicas.pop(registry, None) is not None:
            self._all_dirty()

    def settle(self, now: float) -> set[str]:
        """Brings `known` up to date; the instances that came, changed or left."""
        changed, self._remembered = self._remembered, set()
        dirty, self._dirty = self._dirty | self._in_grace | changed, set()
        self._in_grace = set()
        for instance in dirty:
            before = self.known.get(instance)
            after = self._decide(instance, before, now)
            if after is None:
                if self.known.pop(instance, None) is not None:
                    changed.add(instance)
                continue
            self.known[instance] = after
            if before is None or before.record != after.record or before.suspect is not after.suspect:
                changed.add(instance)
        return changed

    @property
    def is_waiting(self) -> bool:
        """Some record stays for its grace only: settle again soon."""
        return bool(self._in_grace)

    def _decide(self, instance: str, before: Known | None, now: float) -> Known | None:
        held = [(name, r, r.entries[instance]) for name, r in self._replicas.items() if instance in r.entries]
        candidates = [entry for _, _, entry in held]
        if before is not None:
            candidates.append(MergedRecord(before.record, before.heard_at, before.suspect))
        withdrawn = self._withdrawn.get(instance)
        if withdrawn is not None:
            candidates = [entry for entry in candidates if entry.record.rank > withdrawn]
        if not candidates:
            return None
        best = max(candidates, key=lambda entry: (entry.record.rank, entry.heard_at))
        listed = [(name, entry) for name, replica, entry in held if replica.is_connected]
        if listed:
            suspect = all(entry.suspect for _, entry in listed)
            return Known(best.record, best.heard_at, suspect, tuple(name for name, _ in listed))
        if self.is_fresh:
            last = max((replica.lost_at or 0.0 for _, replica, _ in held), default=0.0)
            if not last or now - last > best.record.ttl:
                return None
            self._in_grace.add(instance)
        return Known(best.record, best.heard_at, best.suspect, ())

    def _all_dirty(self) -> None:
        self._dirty.update(self.known)
        for replica in self._replicas.values():
            self._dirty.update(replica.entries)
