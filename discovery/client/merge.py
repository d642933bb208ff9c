"""Merges the lists of several registries, which know nothing of each other, into one view.

Rule 1: no sockets, no threads, no clock here; `now` is always an argument (seconds, monotonic).
Rule 2: of two versions of a record the higher rank wins, whichever registry it came from.
Rule 3: a record is removed when its holder has withdrawn it. It is also removed when no connected registry lists it, and one
that was asked for it is past its warm-up. Records of a registry whose connection is lost stay for one more ttl, their grace.
Rule 4: records outside of the interest are not known, except those that this process has announced.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from discovery.interest import EVERYTHING, NOTHING, Interest
from discovery.model import DEFAULT_TTL
from discovery.record_blocks import Listed, PackedRecord, is_bad, keys_of_listed, unpacked, wants_listed

#: The most tombstones of withdrawn instances: a registry that does not know of a withdrawal yet must not bring one back.
MAX_TOMBSTONES = 10_000
#: The name under which this process's own records are merged, as if by a registry: they are known even without registries.
OWN = ""
#: The longest time between two renewals of a healthy holder, as a share of the ttl: a third, and a fifth more for jitter.
IN_TIME = 0.4


# Not frozen, since that takes three times as long, and a client that starts makes thousands. It is never changed.
@dataclass(slots=True)
class MergedRecord:
    """A record as one registry lists it. `last_contact`: when the holder last contacted that registry, by our clock."""

    record: Listed
    last_contact: float
    suspect: bool = False


@dataclass(slots=True)
class Known(MergedRecord):
    """A record as all registries together list it. `listed_by`: the connected registries that list it now.

    `is_listed`: one of them lists this version, so that it is known to more than this process. While no other registry lists a
    record, this object is also the entry of the registry that does.
    """

    listed_by: tuple[str, ...] = ()
    is_listed: bool = False


@dataclass(slots=True)
class _Replica:
    entries: dict[str, MergedRecord] = field(default_factory=dict)
    #: The interest that this registry has answered. Its list says nothing about other records.
    answered: Interest = EVERYTHING
    is_connected: bool = False
    is_warm: bool = False
    lost_at: float | None = None


class Merge:
    """The records that a client knows. Call the methods for events of each registry, then `settle` for the changes."""

    def __init__(self, interest: Interest = EVERYTHING) -> None:
        self.known: dict[str, Known] = {}
        #: Keys of records that were added, changed or removed; for the caller to read and clear.
        self.changed_keys: set[str] = set()
        self._interest = interest
        #: While `settle` runs, the interest that the connected registries past their warm-up have answered.
        self._answers: list[Interest] = []
        self._replicas: dict[str, _Replica] = {}
        self._withdrawn: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._dirty: set[str] = set()
        self._in_grace: set[str] = set()
        self._restored: set[str] = set()

    @property
    def is_fresh(self) -> bool:
        """Whether some registry is connected and past its warm-up."""
        return any(replica.is_connected and replica.is_warm for replica in self._replicas.values())

    def want(self, interest: Interest) -> None:
        """Sets a larger interest. Records of it that registries list already become known."""
        self._interest = interest
        self._all_dirty()

    def restore(self, entries: Iterable[MergedRecord]) -> None:
        """Adds records from the cache. They stay until a registry that is past its warm-up does not list them."""
        for entry in entries:
            if not wants_listed(self._interest, entry.record):
                continue
            self.known.setdefault(
                entry.record.instance, Known(entry.record, entry.last_contact, entry.suspect, ())
            )
            self._restored.add(entry.record.instance)

    def snapshot(
        self, registry: str, entries: Iterable[MergedRecord], warming: bool, answered: Interest = EVERYTHING
    ) -> None:
        """A registry has connected and has sent all its records of the interest `answered`."""
        replica = self._replicas.setdefault(registry, _Replica())
        replica.answered = answered
        replica.entries = {entry.record.instance: entry for entry in entries}
        replica.is_connected, replica.is_warm, replica.lost_at = True, not warming, None
        self._all_dirty()

    def extended(self, registry: str, answered: Interest) -> None:
        """A connected registry has sent all its records of the interest `answered`, which has grown."""
        replica = self._replicas.get(registry)
        if replica is not None and replica.is_connected:
            replica.answered = answered
            self._all_dirty()

    def update(self, registry: str, entry: MergedRecord) -> None:
        """A connected registry lists a new or changed record."""
        self._replicas[registry].entries[entry.record.instance] = entry
        self._dirty.add(entry.record.instance)

    def drop(self, registry: str, instance: str, rank: tuple[int, int], withdrawn: bool) -> None:
        """A connected registry no longer lists an instance. `withdrawn`: its holder withdrew it, so no registry shall list it."""
        replica = self._replicas.get(registry)
        if replica is not None:
            replica.entries.pop(instance, None)
        if withdrawn:
            self._withdrawn[instance] = max(rank, self._withdrawn.get(instance, rank))
            self._withdrawn.move_to_end(instance)
            while len(self._withdrawn) > MAX_TOMBSTONES:
                self._withdrawn.popitem(last=False)
        self._dirty.add(instance)

    def warmed(self, registry: str, warming: bool) -> None:
        """A connected registry said whether it is still warming up."""
        replica = self._replicas.get(registry)
        if replica is not None and replica.is_warm is warming:
            replica.is_warm = not warming
            self._all_dirty()

    def lost(self, registry: str, now: float) -> None:
        """The connection to a registry was lost; its records begin their grace."""
        replica = self._replicas.get(registry)
        if replica is not None and replica.is_connected:
            replica.is_connected, replica.lost_at = False, now
            self._all_dirty()

    def remove_registry(self, registry: str) -> None:
        """A registry is no longer part of this directory."""
        if self._replicas.pop(registry, None) is not None:
            self._all_dirty()

    def settle(self, now: float) -> set[str]:
        """Brings `known` up to date, and returns the instances that were added, changed or removed."""
        changed, self._restored = self._restored, set()
        dirty, self._dirty = self._dirty, set()
        dirty.update(self._in_grace, changed)
        self._in_grace = set()
        self._answers = [one.answered for one in self._replicas.values() if one.is_connected and one.is_warm]
        for instance in self._not_plain(dirty, changed):
            before = self.known.get(instance)
            after = self._decide(instance, before, now)
            if after is None:
                if self.known.pop(instance, None) is None:
                    continue
            else:
                self.known[instance] = after
                is_new = before is None or _differ(before.record, after.record)
                is_new = is_new or before is not None and after.is_listed and not before.is_listed
                if not is_new and before is not None and before.suspect is after.suspect:
                    continue
            changed.add(instance)
            for one in (before, after):
                if one is not None:
                    self.changed_keys.update(keys_of_listed(one.record))
        return changed

    def confirmed(self, interest: Interest) -> Interest:
        """The part of an interest that a connected registry past its warm-up has answered; NOTHING if there is none."""
        warm = [one.answered for one in self._replicas.values() if one.is_connected and one.is_warm]
        if not warm:
            return NOTHING
        if any(answered is None for answered in warm):
            return interest
        told = frozenset[str]().union(*(answered for answered in warm if answered is not None))
        return NOTHING if interest is None else interest & told

    @property
    def is_waiting(self) -> bool:
        """Whether some record stays only for its grace, so that `settle` must be called again soon."""
        return bool(self._in_grace)

    def _not_plain(self, dirty: set[str], changed: set[str]) -> Iterable[str]:
        """Settles the records that only one connected registry has anything to say about. Returns the other instances.

        With one registry that is nearly every record, and a client that starts has thousands. The same holds when the connection
        to that registry is lost, or there again.
        """
        listing = [(name, one) for name, one in self._replicas.items() if one.entries and name != OWN]
        if len(listing) != 1:
            return dirty
        ((name, replica),) = listing
        if not replica.is_connected:
            return self._not_kept(replica, dirty, changed)
        own, known, withdrawn, entries = self._replicas.get(OWN), self.known, self._withdrawn, replica.entries
        owned = own.entries if own is not None else {}
        others, alone = [], (name,)
        #: By the keys of records, which are those of a whole block: whether these are of interest.
        wanted: dict[tuple[str, ...], bool] = {}
        for instance in dirty:
            entry = entries.get(instance)
            if entry is None or instance in owned or instance in withdrawn or is_bad(entry.record):
                others.append(instance)
                continue
            before = known.get(instance)
            if before is None:
                record = entry.record
                keys = keys_of_listed(record)
                is_wanted = wanted.get(keys)
                if is_wanted is None:
                    is_wanted = wanted[keys] = wants_listed(self._interest, record)
                    if is_wanted:
                        self.changed_keys.update(keys)
                if is_wanted:
                    if type(entry) is Known and entry.listed_by == alone:
                        known[instance] = entry
                    else:
                        known[instance] = Known(record, entry.last_contact, entry.suspect, alone, True)
                    changed.add(instance)
            elif type(entry) is Known and entry.listed_by == alone and _replaces(entry, before) and instance not in changed:
                known[instance] = entry
                if entry.suspect is not before.suspect or not before.is_listed:
                    changed.add(instance)
                    self.changed_keys.update(keys_of_listed(entry.record))
            elif (
                before.record is not entry.record or before.suspect is not entry.suspect or before.listed_by != alone
                or not before.is_listed or instance in changed
            ):  # fmt: skip
                others.append(instance)
        return others

    def _not_kept(self, replica: _Replica, dirty: set[str], changed: set[str]) -> Iterable[str]:
        """Settles the records of a lost registry that stay as they are, because no other registry can say more.

        Returns the other instances.
        """
        if self._answers:
            return dirty
        own, known, withdrawn, entries = self._replicas.get(OWN), self.known, self._withdrawn, replica.entries
        owned = own.entries if own is not None else {}
        others = []
        for instance in dirty:
            entry = known.get(instance)
            if (
                entry is None or entries.get(instance) is not entry or instance in owned or instance in withdrawn
                or instance in changed or is_bad(entry.record)
            ):  # fmt: skip
                others.append(instance)
            else:
                known[instance] = Known(entry.record, entry.last_contact, entry.suspect, ())
        return others

    def pass_over(self, instance: str) -> None:
        """Ignores the record of an instance, which turned out to be bad: `settle` decides again without it."""
        self._dirty.add(instance)

    def _decide(self, instance: str, before: Known | None, now: float) -> Known | None:
        held = [
            (name, replica, entry)
            for name, replica in self._replicas.items()
            if (entry := replica.entries.get(instance)) is not None and not is_bad(entry.record)
        ]
        candidates = [entry for _, _, entry in held]
        if before is not None and not is_bad(before.record):
            candidates.append(MergedRecord(before.record, before.last_contact, before.suspect))
        withdrawn = self._withdrawn.get(instance)
        if withdrawn is not None:
            candidates = [entry for entry in candidates if entry.record.rank > withdrawn]
        if not candidates:
            return None
        best = max(candidates, key=lambda entry: (entry.record.rank, entry.last_contact))
        if not (wants_listed(self._interest, best.record) or any(name == OWN for name, _, _ in held)):
            return None
        listed = [(name, entry) for name, replica, entry in held if replica.is_connected]
        if listed:
            suspect = all(entry.suspect for _, entry in listed)
            is_listed = any(name != OWN and entry.record.rank >= best.record.rank for name, entry in listed)
            return Known(best.record, best.last_contact, suspect, tuple(name for name, _ in listed), is_listed)
        if any(wants_listed(answered, best.record) for answered in self._answers):
            last = max((replica.lost_at or 0.0 for _, replica, _ in held), default=0.0)
            if not last or now - last > _ttl(best.record):
                return None
            self._in_grace.add(instance)
        return Known(best.record, best.last_contact, best.suspect, ())

    def _all_dirty(self) -> None:
        self._dirty.update(self.known)
        for replica in self._replicas.values():
            self._dirty.update(replica.entries)


def _replaces(entry: Known, before: Known) -> bool:
    """Whether a registry lists the known version of a record, as of later, and neither is decoded."""
    new, old = entry.record, before.record
    return (
        new is not old and type(new) is PackedRecord and type(old) is PackedRecord and new.rank == old.rank
        and new.keys == old.keys and entry.last_contact >= before.last_contact and not is_bad(old)
    )  # fmt: skip


def _differ(before: Listed, after: Listed) -> bool:
    if isinstance(before, PackedRecord) and isinstance(after, PackedRecord):
        # A record has one writer, who gives each change another rank. To compare all fields, both would have to be decoded.
        return before.rank != after.rank or before.keys != after.keys
    one, other = unpacked((before, after))
    # A record that was signed again replaces the former one, although it is equal.
    return one is None or other is None or one != other or one.signed != other.signed


def _ttl(record: Listed) -> float:
    (found,) = unpacked((record,))
    return DEFAULT_TTL if found is None else found.ttl
