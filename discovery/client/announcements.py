"""What this process announced, and which registries have acknowledged it.

Rule 1: no sockets, no threads, no clock here; `now` is an argument (seconds, monotonic).
Rule 2: changes are numbered; a registry is up to date when it acknowledged the last one of every instance.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from discovery import protocol
from discovery.exceptions import DirectoryError
from discovery.model import DEFAULT_TTL, Record

#: Withdrawn records remembered, so that none comes back by mistake.
MAX_WITHDRAWN = 1000
#: Seconds in which a registry that comes (back) is told of a withdrawal: its clients may remember the record.
REMEMBER_FOR = 60.0


class LeaseClaims:
    """What the callers of a directory have announced so far, to tell them of mistakes at once."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._withdrawn: OrderedDict[str, Record] = OrderedDict()

    def announce(self, record: Record) -> bool:
        """False when this very record is announced already. DirectoryError when it is not newer."""
        held = self._records.get(record.instance)
        if record == held:
            return False
        former = held or self._withdrawn.get(record.instance)
        if former is not None and record.rank <= former.rank:
            raise DirectoryError(
                f"instance {record.instance!r} of {record.service!r} was announced with version "
                f"{former.version} and is now changed with version {record.version}; a higher one is needed, "
                "see Record.replace"
            )
        self._withdrawn.pop(record.instance, None)
        self._records[record.instance] = record
        return True

    def withdraw(self, instance: str) -> Record | None:
        """The record that is taken back; None when it was not announced."""
        record = self._records.pop(instance, None)
        if record is not None:
            self._withdrawn[instance] = record
            if len(self._withdrawn) > MAX_WITHDRAWN:
                self._withdrawn.popitem(last=False)
        return record

    def withdraw_all(self) -> list[Record]:
        """Takes everything back."""
        return [record for instance in list(self._records) if (record := self.withdraw(instance)) is not None]


@dataclass(frozen=True, slots=True)
class _Own:
    record: Record
    change: int
    withdrawn_at: float | None = None


class Announcements:
    """What the registries are to know of us, what to send them for it, and what they have acknowledged."""

    def __init__(self) -> None:
        self._own: dict[str, _Own] = {}
        self._last_change = 0
        self._last_request = 0
        self._requests: dict[Hashable, dict[int, tuple[str, int]]] = {}
        self._acknowledged: dict[Hashable, dict[str, int]] = {}

    def announce(self, record: Record) -> None:
        """From here on this is what registries are told of the instance."""
        self._last_change += 1
        self._own[record.instance] = _Own(record, self._last_change)

    def withdraw(self, record: Record, now: float) -> None:
        """From here on registries are told that the instance is gone."""
        self._last_change += 1
        self._own[record.instance] = _Own(record, self._last_change, now)

    def forget_the_past(self, now: float) -> None:
        """Lets go of what was withdrawn long ago."""
        past = [
            own for own in self._own.values() if own.withdrawn_at and now - own.withdrawn_at > REMEMBER_FOR
        ]
        for own in past:
            del self._own[own.record.instance]

    def messages(self, registry: Hashable, instances: Iterable[str] | None = None) -> list[protocol.Message]:
        """What a registry is to be told of these instances (None: of all)."""
        messages: list[protocol.Message] = []
        for instance in list(self._own) if instances is None else instances:
            own = self._own.get(instance)
            if own is not None:
                messages.append(self._message(own, self._request(registry, own)))
        return messages

    def renewals(self) -> list[protocol.Message]:
        """What keeps the leases alive, in messages of bounded size."""
        leases = [[record.instance, *record.rank] for record in self._leased()]
        most = protocol.MAX_RENEWALS
        return [protocol.Renew(leases[start : start + most]) for start in range(0, len(leases), most)]

    def shortest_ttl(self) -> float:
        """Seconds; of all that is announced."""
        return min((record.ttl for record in self._leased()), default=DEFAULT_TTL)

    def acknowledged(self, registry: Hashable, request: int) -> None:
        """A registry did what `request` asked."""
        instance, change = self._requests.get(registry, {}).pop(request, ("", 0))
        if instance:
            known = self._acknowledged.setdefault(registry, {})
            known[instance] = max(change, known.get(instance, 0))

    def refused(self, registry: Hashable, request: int) -> None:
        """A registry will not do what `request` asked."""
        self._requests.get(registry, {}).pop(request, None)

    def forget_acknowledgements(self, registry: Hashable) -> None:
        """A registry went, or came anew: what it acknowledged before counts no more."""
        self._requests.pop(registry, None)
        self._acknowledged.pop(registry, None)

    def is_acknowledged(self, registries: Iterable[Hashable]) -> bool:
        """Every one of these registries has acknowledged every change."""
        return all(
            self._acknowledged.get(registry, {}).get(instance, 0) >= own.change
            for registry in registries
            for instance, own in self._own.items()
        )

    def _leased(self) -> list[Record]:
        return [own.record for own in self._own.values() if own.withdrawn_at is None]

    def _message(self, own: _Own, request: int) -> protocol.Message:
        record = own.record
        if own.withdrawn_at is None:
            return protocol.Register(request, record)
        return protocol.Withdraw(request, record.namespace, record.instance, *record.rank)

    def _request(self, registry: Hashable, own: _Own) -> int:
        self._last_request += 1
        self._requests.setdefault(registry, {})[self._last_request] = (own.record.instance, own.change)
        return self._last_request
