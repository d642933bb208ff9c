"""What this process announced, and which registries have acknowledged it.

Rule 1: no sockets, no clock here; `now` is an argument.
Rule 2: each change has a number; a registry is up to date when it acknowledged the last change of every instance.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from discovery import protocol
from discovery.exceptions import DirectoryError
from discovery.model import DEFAULT_TTL, Record

#: Withdrawn records remembered for registries that come back.
MAX_WITHDRAWN = 1000


class Announcements:
    """`announce` and `withdraw` are called under the directory's lock, all else by its thread."""

    def __init__(self) -> None:
        self.changes = 0
        self._records: dict[str, tuple[Record, int]] = {}
        self._withdrawn: dict[str, tuple[Record, int]] = {}
        self._requests: dict[Hashable, dict[int, tuple[str, int]]] = {}
        self._acknowledged: dict[Hashable, dict[str, int]] = {}
        self._last_request = 0

    def announce(self, record: Record) -> bool:
        """False when this very record is announced already. DirectoryError when it is not newer than what was."""
        held, _ = self._records.get(record.instance) or self._withdrawn.get(record.instance) or (None, 0)
        if held is not None:
            if record == held and record.instance in self._records:
                return False
            if record.rank <= held.rank:
                raise DirectoryError(
                    f"instance {record.instance!r} of {record.service!r} was announced with version {held.version} "
                    f"and now has version {record.version}; a higher one is needed, as record.replace(...) makes it"
                )
        self.changes += 1
        self._withdrawn.pop(record.instance, None)
        self._records[record.instance] = (record, self.changes)
        return True

    def withdraw(self, instance: str) -> Record | None:
        """The record that was taken back; None when it was not announced."""
        held = self._records.pop(instance, None)
        if held is None:
            return None
        self.changes += 1
        self._withdrawn[instance] = (held[0], self.changes)
        while len(self._withdrawn) > MAX_WITHDRAWN:
            del self._withdrawn[next(iter(self._withdrawn))]
        return held[0]

    def withdraw_all(self) -> list[Record]:
        """Takes everything back."""
        return [record for instance in list(self._records) if (record := self.withdraw(instance)) is not None]

    def all_messages(self, registry: Hashable, now: float) -> list[protocol.Message]:
        """What a registry that just came is to be told. It also hears what was withdrawn: its clients may remember."""
        return self.messages_for(registry, [*list(self._withdrawn), *list(self._records)])

    def messages_for(self, registry: Hashable, instances: Iterable[str]) -> list[protocol.Message]:
        """What a registry is to be told of these; those that were never announced are left out."""
        messages: list[protocol.Message] = []
        for instance in instances:
            held, gone = self._records.get(instance), self._withdrawn.get(instance)
            if held is not None:
                record, change = held
                messages.append(protocol.Register(self._request(registry, instance, change), record))
            elif gone is not None:
                record, change = gone
                request = self._request(registry, instance, change)
                messages.append(protocol.Withdraw(request, record.namespace, instance, *record.rank))
        return messages

    def renewals(self) -> list[protocol.Renew]:
        """What keeps the leases alive, in messages of bounded size."""
        leases = [[record.instance, *record.rank] for record, _ in list(self._records.values())]
        most = protocol.MAX_RENEWALS
        return [protocol.Renew(leases[start : start + most]) for start in range(0, len(leases), most)]

    def shortest_ttl(self) -> float:
        """Seconds; of all that is announced."""
        return min((record.ttl for record, _ in list(self._records.values())), default=DEFAULT_TTL)

    def acknowledged(self, registry: Hashable, request: int) -> None:
        """A registry did what `request` asked."""
        instance, change = self._requests.get(registry, {}).pop(request, ("", 0))
        if instance:
            known = self._acknowledged.setdefault(registry, {})
            known[instance] = max(change, known.get(instance, 0))

    def forget_acknowledgements(self, registry: Hashable) -> None:
        """A registry went, or came anew: what it acknowledged before counts no more."""
        self._requests.pop(registry, None)
        self._acknowledged.pop(registry, None)

    def is_acknowledged(self, registries: Iterable[Hashable], target: int | None = None) -> bool:
        """Every registry has acknowledged each change up to number `target` (None: to the last)."""
        wanted = [
            (instance, change)
            for items in (self._records, self._withdrawn)
            for instance, (_, change) in list(items.items())
            if target is None or change <= target
        ]
        for registry in registries:
            known = self._acknowledged.get(registry, {})
            if any(known.get(instance, 0) < change for instance, change in wanted):
                return False
        return True

    def _request(self, registry: Hashable, instance: str, change: int) -> int:
        self._last_request += 1
        self._requests.setdefault(registry, {})[self._last_request] = (instance, change)
        return self._last_request
