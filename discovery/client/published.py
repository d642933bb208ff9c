"""The last state that the directory's thread has published. Other threads read it without a lock.

Rule 1: an object here never changes once it is published; `now` is always an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

from discovery.client.merge import IN_TIME, Known
from discovery.model import Note, Record, Seen, View
from discovery.record_blocks import unpacked


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """The state of the connection to one registry."""

    url: str
    address: str | None
    state: str
    boot_id: str | None
    warming: bool
    error: str | None


class Contact(Protocol):
    """An object that knows when a registry last sent something."""

    last_contact: float


class _Records(Mapping[str, Seen]):
    """The records of a view. Each entry is made when it is read: many callbacks read nothing of a view."""

    __slots__ = ("_are_good", "_known", "_now", "_seen")

    def __init__(self, known: dict[str, Known], seen: Callable[[Known, Record, float], Seen], now: float) -> None:
        self._known = known
        self._seen = seen
        self._now = now
        self._are_good = False

    def __getitem__(self, instance: str) -> Seen:
        item = self._known[instance]
        (record,) = unpacked((item.record,))
        if record is None:
            raise KeyError(instance)
        return self._seen(item, record, self._now)

    def __iter__(self) -> Iterator[str]:
        return iter(self._good())

    def __len__(self) -> int:
        return len(self._good())

    def __repr__(self) -> str:
        return repr(dict(self))

    def _good(self) -> dict[str, Known]:
        # A caller that asks for all records usually reads them next. Bad records must not be counted or iterated.
        if not self._are_good:
            found = unpacked(item.record for item in self._known.values())
            self._known = {
                instance: item for (instance, item), record in zip(self._known.items(), found, strict=True) if record is not None
            }
            self._are_good = True
        return self._known


class _Registries(Sequence[dict[str, Any]]):
    """The registries of a view. They are described when they are read: to count the records of each takes long."""

    __slots__ = ("_describe", "_found")

    def __init__(self, describe: Callable[[], list[dict[str, Any]]]) -> None:
        self._describe = describe
        self._found: list[dict[str, Any]] | None = None

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._all()[place]

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> list[dict[str, Any]]:
        if self._found is None:
            self._found = self._describe()
        return self._found


class Published:
    """The merged view at one moment."""

    def __init__(
        self,
        known: dict[str, Known],
        statuses: tuple[RegistryStatus, ...],
        is_fresh: bool,
        since: float,
        contact: dict[str, Any],
        notes: tuple[Note, ...] = (),
    ) -> None:
        self.notes = notes
        self.statuses = statuses
        self.is_fresh = is_fresh
        self._known = known
        self._since = since
        self._contact: dict[str, Contact] = contact
        self._by_service: dict[str, list[Known]] | None = None

    def next(
        self,
        now: float,
        known: dict[str, Known],
        statuses: tuple[RegistryStatus, ...],
        is_fresh: bool,
        contact: dict[str, Any],
        notes: tuple[Note, ...],
    ) -> Published:
        """The state that follows this one. It keeps the time since which the view has been fresh or stale."""
        since = self._since if is_fresh is self.is_fresh else now
        return Published(known, statuses, is_fresh, since, contact, notes)

    def view(self, now: float) -> View:
        """The whole view, with ages as of `now`."""
        return View(
            _Records(self._known, self._seen, now),
            self.is_fresh,
            self.stale_for(now),
            _Registries(lambda: [self._registry(status, now) for status in self.statuses]),
            self.notes,
        )

    def service(self, name: str, now: float) -> list[Seen]:
        """The instances of one service."""
        if self._by_service is None:
            index: dict[str, list[Known]] = {}
            for item in self._known.values():
                index.setdefault(item.record.service, []).append(item)
            self._by_service = index
        items = self._by_service.get(name, ())
        found = unpacked(item.record for item in items)
        return [self._seen(item, record, now) for item, record in zip(items, found, strict=True) if record is not None]

    def stale_for(self, now: float) -> float:
        """Seconds since the view was last fresh, or since the start; 0 while it is fresh."""
        return 0.0 if self.is_fresh else max(0.0, now - self._since)

    def describe(self, now: float) -> str:
        """The second half of a sentence that begins with the directory's name."""
        if self.is_fresh:
            return ", fresh"
        if any(status.state == "up" for status in self.statuses):
            return f", warming up for {self.stale_for(now):.0f} s"
        errors = sorted({status.error for status in self.statuses if status.error})
        return f" has been stale for {self.stale_for(now):.0f} s" + (
            f" ({'; '.join(errors)})" if errors else ""
        )

    def _seen(self, item: Known, record: Record, now: float) -> Seen:
        last_contact = item.last_contact
        if not item.suspect:
            # A connected registry lists a lease only while its holder renews it in time.
            for registry in item.listed_by:
                contact = self._contact.get(registry)
                renewed = now if contact is None else contact.last_contact - IN_TIME * record.ttl
                last_contact = max(last_contact, renewed)
        return Seen(record, max(0.0, now - last_contact), item.suspect, item.is_listed)

    def _registry(self, status: RegistryStatus, now: float) -> dict[str, Any]:
        contact = None if status.address is None else self._contact.get(status.address)
        is_known = contact is not None and contact.last_contact != float("-inf")
        return {
            "url": status.url,
            "address": status.address,
            "state": status.state,
            "boot_id": status.boot_id,
            "warming": status.warming,
            "error": status.error,
            "last_contact": max(0.0, now - contact.last_contact) if contact is not None and is_known else None,
            "records": sum(status.address in item.listed_by for item in self._known.values()),
        }
