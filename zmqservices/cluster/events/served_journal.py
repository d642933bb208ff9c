"""One journal that this process serves: its own or an orphan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gevent.event import AsyncResult

from zmqservices.cluster.events.group_delivery import GroupDelivery, SendOn, Together
from zmqservices.cluster.settings import EventSettings
from zmqservices.journal import Group, Journal, Notice
from zmqservices.probes import UNWATCHED, Measure, Watched
from zmqservices.transport.reactor import Reactor
from zmqservices.utils.concurrency import in_thread

#: Called with the delivery of a group, or with an error.
WithDelivery = Callable[[GroupDelivery | Exception], None]


class ServedJournal:
    """A journal with a `GroupDelivery` for each requested group. Call `open` first."""

    #: Set by `open`.
    journal: Journal

    def __init__(
        self,
        reactor: Reactor,
        settings: EventSettings,
        send_on: SendOn,
        together: Together,
        clock: Callable[[], float],
        watched: Watched = UNWATCHED,
        source: str = "",
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._send_on = send_on
        self._together = together
        self._clock = clock
        self._watched = watched
        self._source = source
        self.deliveries: dict[str, GroupDelivery] = {}
        self._waiting: dict[str, list[WithDelivery]] = {}
        self._closed = False

    def open(self, source: str, on_notice: Callable[[Notice], None], slot: int | None = None) -> None:
        """Open the journal. Blocks the greenlet while the disk is read. Raises the errors of `Journal.open`."""
        settings = self._settings
        self.journal = in_thread(
            Journal.open,
            settings.folder,
            source,
            slot=slot,
            sync=settings.sync,
            max_bytes=settings.max_bytes,
            max_age=settings.max_age,
            retention=settings.retention,
            when_full=settings.when_full,
            full_timeout=settings.full_timeout,
            on_notice=lambda notice: self._reactor.post(on_notice, notice),
            on_commit=lambda last_seq: self._reactor.post(self._committed, last_seq),
        )

    def _committed(self, last_seq: int) -> None:
        if not self._closed:
            for delivery in self.deliveries.values():
                delivery.appended(last_seq)

    def knows_group(self, name: str) -> bool:
        """Whether the journal keeps events for the group."""
        return name in self.deliveries or any(group.name == name for group in self.journal.groups())

    def with_delivery(self, group: Group, then: WithDelivery) -> None:
        """Keep events for the group, and call `then` with its delivery, or with the journal's error."""
        delivery = self.deliveries.get(group.name)
        if delivery is not None and delivery.group == group:
            then(delivery)
            return
        waiting = self._waiting.setdefault(group.name, [])
        waiting.append(then)
        if len(waiting) == 1:
            self.journal.ensure_group(group, lambda outcome: self._reactor.post(self._ensured, group, outcome))

    def _ensured(self, group: Group, outcome: int | Exception) -> None:
        waiting = self._waiting.pop(group.name, [])
        if self._closed:
            return
        answer: GroupDelivery | Exception
        if isinstance(outcome, Exception):
            answer = outcome
        else:
            answer = self.deliveries.get(group.name) or GroupDelivery(
                self._reactor, self.journal, group, outcome, self._settings, self._send_on, self._together, self._clock,
                self._watched, self._source,
            )  # fmt: skip
            answer.group = group
            self.deliveries[group.name] = answer
        for then in waiting:
            then(answer)

    def remove_group(self, name: str) -> bool:
        """Remove a group and its waiting events. Blocks the greenlet. Returns False for an unknown group."""
        delivery = self.deliveries.pop(name, None)
        if delivery is not None:
            delivery.close()
        return bool(self.ask(self.journal.remove_group, name))

    def ask(self, method: Callable[..., None], *args: object, **kwargs: object) -> Any:
        """Call a method of the journal that takes `done`, and wait for its answer. Raises the answer if it is an error."""
        answer: AsyncResult = AsyncResult()
        kwargs["done"] = lambda outcome: self._reactor.post(answer.set, outcome)
        method(*args, **kwargs)
        outcome = answer.get()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @property
    def in_flight(self) -> int:
        """The events of all groups that are sent and not answered."""
        return sum(delivery.rules.in_flight for delivery in self.deliveries.values())

    def is_empty(self) -> bool:
        """Whether no event waits for any group, and there are no dead letters."""
        stats = self.journal.stats()
        return not stats.dead_letters and not any(group.waiting for group in stats.groups.values())

    def is_done(self, with_members: set[str]) -> bool:
        """Whether no event waits for a group that has a connected member, or is in `with_members`."""
        groups = self.journal.stats().groups
        return not any(
            groups[name].waiting
            for name, delivery in self.deliveries.items()
            if name in groups and (name in with_members or delivery.rules.members())
        )

    def measure(self, source: str) -> Iterator[Measure]:
        """Measures: the events of the journal, and for each group the events that wait and its members."""
        stats = self.journal.stats()
        labels = {"source": source, "journal": self.journal.id}
        yield Measure("journal_events", stats.events, labels)
        yield Measure("journal_bytes", stats.bytes, labels)
        yield Measure("journal_max_bytes", stats.max_bytes, labels)
        yield Measure("journal_blocked", float(bool(stats.blocked)), labels)
        for group, found in stats.groups.items():
            of_group = {**labels, "group": group}
            delivery = self.deliveries.get(group)
            yield Measure("events_waiting", found.waiting, of_group)
            yield Measure("events_oldest_age", found.oldest_age or 0.0, of_group)
            yield Measure("events_in_flight", 0 if delivery is None else delivery.rules.in_flight, of_group)
            yield Measure("dead_letters", found.dead_letters, of_group)
            yield Measure("group_members", 0 if delivery is None else len(delivery.rules.members()), of_group)

    def pause(self) -> None:
        """Send no more events. Answers still count."""
        for delivery in self.deliveries.values():
            delivery.is_paused = True

    def close(self, discard: bool = False) -> None:
        """Close the journal.

        Blocks the greenlet while the last answers are written. With `discard`, an empty journal is deleted.
        """
        if self._closed:
            return
        self._closed = True
        for delivery in self.deliveries.values():
            delivery.close()
        if discard:
            self.ask(self.journal.discard)
        else:
            in_thread(self.journal.close)
