"""The records that this process has announced, and which registries have acknowledged them.

Rule 1: no sockets, no threads, no clock here; `now` is an argument (seconds, monotonic).
Rule 2: changes are numbered; a registry is up to date once it has acknowledged the last change of every instance.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from discovery import protocol
from discovery.exceptions import DirectoryError
from discovery.model import DEFAULT_TTL, Record

#: The most tombstones of withdrawn records, which keep an older version from being announced by mistake.
MAX_TOMBSTONES = 1000
#: Seconds for which a registry that connects is told of a withdrawal, at least: its clients may still have the record.
TOMBSTONE_TTL = 60.0
#: For a long ttl it is told for this many times the ttl. A client of etcd that connects again renews its leases: if it had
#: forgotten the withdrawal before the lease ran out, the record would stay listed for as long as the process runs.
TOMBSTONE_TTLS = 2


class LeaseClaims:
    """The records that callers have announced. Each call is checked at once, so that the caller gets the error."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._withdrawn: OrderedDict[str, Record] = OrderedDict()

    def announce(self, record: Record) -> bool:
        """False when this record is announced already. DirectoryError when it is not newer than the announced one."""
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
        """The record that was announced; None when the instance was not announced."""
        record = self._records.pop(instance, None)
        if record is not None:
            self._withdrawn[instance] = record
            if len(self._withdrawn) > MAX_TOMBSTONES:
                self._withdrawn.popitem(last=False)
        return record

    def withdraw_all(self) -> list[Record]:
        """Withdraws all records, and returns them."""
        return [record for instance in list(self._records) if (record := self.withdraw(instance)) is not None]


@dataclass(frozen=True, slots=True)
class _Own:
    record: Record
    change: int
    withdrawn_at: float | None = None

    def is_old_tombstone(self, now: float) -> bool:
        """Whether it was withdrawn so long ago that nobody needs to be told any more."""
        longest = max(TOMBSTONE_TTL, TOMBSTONE_TTLS * self.record.ttl)
        return self.withdrawn_at is not None and now - self.withdrawn_at > longest


class RecordSigner(Protocol):
    """Signs for this process, in a closed cluster; a `discovery.security.envelopes.Signer`."""

    def record(self, record: Record) -> Record:
        """The record, signed."""

    def is_due(self, record: Record) -> bool:
        """Whether a record must be signed again."""

    def withdrawal(self, record: Record) -> bytes:
        """The withdrawal of a record, signed."""


class Announcements:
    """The records that the registries shall list, the messages for that, and what each registry has acknowledged.

    `signer` signs withdrawals, and signs records again whose signatures become old.
    """

    def __init__(self, signer: RecordSigner | None = None) -> None:
        self._signer = signer
        self._own: dict[str, _Own] = {}
        self._last_change = 0
        self._last_request = 0
        self._requests: dict[Hashable, dict[int, tuple[str, int]]] = {}
        self._acknowledged: dict[Hashable, dict[str, int]] = {}

    def announce(self, record: Record) -> None:
        """Has registries list this record of the instance from now on."""
        self._last_change += 1
        self._own[record.instance] = _Own(record, self._last_change)

    def withdraw(self, record: Record, now: float) -> None:
        """Has registries remove the instance."""
        self._last_change += 1
        self._own[record.instance] = _Own(record, self._last_change, now)

    def drop_old_tombstones(self, now: float) -> None:
        """Drops the tombstones of records that were withdrawn long ago."""
        old = [own for own in self._own.values() if own.is_old_tombstone(now)]
        for own in old:
            del self._own[own.record.instance]

    def messages(self, registry: Hashable, instances: Iterable[str] | None = None) -> list[protocol.Message]:
        """The messages that bring a registry up to date about these instances (None: about all)."""
        messages: list[protocol.Message] = []
        for instance in list(self._own) if instances is None else instances:
            own = self._own.get(instance)
            if own is not None:
                messages.append(self._message(own, self._request(registry, own)))
        return messages

    def sign_again(self) -> list[str]:
        """Signs the records again for which it is time. Returns their instances, which must be sent to the registries."""
        signer = self._signer
        if signer is None:
            return []
        due = [own for own in self._own.values() if own.withdrawn_at is None and signer.is_due(own.record)]
        for own in due:
            self._last_change += 1
            self._own[own.record.instance] = replace(own, record=signer.record(own.record), change=self._last_change)
        return [own.record.instance for own in due]

    def renewals(self) -> list[protocol.Message]:
        """The messages that renew all leases, each of bounded size."""
        leases = [[record.instance, *record.rank] for record in self._leased()]
        most = protocol.MAX_RENEWALS
        return [protocol.Renew(leases[start : start + most]) for start in range(0, len(leases), most)]

    def shortest_ttl(self) -> float:
        """The shortest ttl of the announced records, in seconds."""
        return min((record.ttl for record in self._leased()), default=DEFAULT_TTL)

    def acknowledged(self, registry: Hashable, request: int) -> None:
        """A registry carried out `request`."""
        instance, change = self._requests.get(registry, {}).pop(request, ("", 0))
        if instance:
            known = self._acknowledged.setdefault(registry, {})
            known[instance] = max(change, known.get(instance, 0))

    def refused(self, registry: Hashable, request: int) -> None:
        """A registry refused `request`."""
        self._requests.get(registry, {}).pop(request, None)

    def reset_acknowledgements(self, registry: Hashable) -> None:
        """A registry was lost or has restarted: its earlier acknowledgements no longer count."""
        self._requests.pop(registry, None)
        self._acknowledged.pop(registry, None)

    def is_acknowledged(self, registries: Iterable[Hashable]) -> bool:
        """Whether each of these registries has acknowledged every change."""
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
        signed = None if self._signer is None else self._signer.withdrawal(record)
        return protocol.Withdraw(request, record.namespace, record.instance, *record.rank, signed)

    def _request(self, registry: Hashable, own: _Own) -> int:
        self._last_request += 1
        self._requests.setdefault(registry, {})[self._last_request] = (own.record.instance, own.change)
        return self._last_request
