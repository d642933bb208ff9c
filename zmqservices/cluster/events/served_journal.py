"""One journal that this process serves: its own, or one that another process left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.event import AsyncResult

from zmqservices.cluster.events.group_delivery import GroupDelivery, SendOn, Together
from zmqservices.cluster.settings import EventSettings
from zmqservices.journal import Group, Journal
from zmqservices.transport.reactor import Reactor
from zmqservices.utils.concurrency import in_thread


class ServedJournal:
    """A journal with a delivery for each of its groups that somebody asked for."""

    def __init__(self, reactor: Reactor, settings: EventSettings, send_on: SendOn, together: Together) -> None:
        self._reactor = reactor
        self._settings = settings
        self._send_on = send_on
        self._together = together
        self.journal: Any = None
        self.deliveries: dict[str, GroupDelivery] = {}
        self._waiting: dict[str, list[Callable[[GroupDelivery | Exception], None]]] = {}
        self._closed = False

    def open(self, source: str, tell: Callable[[Any], None], slot: int | None = None) -> None:
        """Blocks the greenlet while the disk is read. Raises what `Journal.open` raises."""
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
            tell=lambda notice: self._reactor.post(tell, notice),
            committed=lambda last_seq: self._reactor.post(self._committed, last_seq),
        )

    def _committed(self, last_seq: int) -> None:
        if not self._closed:
            for delivery in self.deliveries.values():
                delivery.appended(last_seq)

    def knows_group(self, name: str) -> bool:
        return name in self.deliveries or any(group.name == name for group in self.journal.groups())

    def with_delivery(self, group: Group, then: Callable[[GroupDelivery | Exception], None]) -> None:
        """Call `then` with the group's delivery, once the journal keeps events for it; or with the journal's error."""
        delivery = self.deliveries.get(group.name)
        if delivery is not None and delivery.group == group:
            then(delivery)
            return
        waiting = self._waiting.setdefault(group.name, [])
        waiting.append(then)
        if len(waiting) == 1:
            self.journal.ensure_group(group, lambda outcome: self._reactor.post(self._ensured, group, outcome))

    def _ensured(self, group: Group, outcome: Any) -> None:
        waiting = self._waiting.pop(group.name, [])
        if self._closed:
            return
        answer: GroupDelivery | Exception
        if isinstance(outcome, Exception):
            answer = outcome
        else:
            answer = self.deliveries.get(group.name) or GroupDelivery(
                self._reactor, self.journal, group, outcome, self._settings, self._send_on, self._together
            )
            answer.group = group
            self.deliveries[group.name] = answer
        for then in waiting:
            then(answer)

    def forget(self, name: str) -> bool:
        """Remove a group with all that waits for it. Blocks the greenlet; False when there was none."""
        delivery = self.deliveries.pop(name, None)
        if delivery is not None:
            delivery.close()
        return bool(self.ask(self.journal.remove_group, name))

    def ask(self, method: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
        """Call a method of the journal that takes `done`, and wait for its answer. Raises the error that it tells."""
        answer: AsyncResult = AsyncResult()
        kwargs["done"] = lambda outcome: self._reactor.post(answer.set, outcome)
        method(*args, **kwargs)
        outcome = answer.get()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @property
    def in_flight(self) -> int:
        """Events that are sent and not answered, of all groups."""
        return sum(delivery.rules.in_flight for delivery in self.deliveries.values())

    def is_empty(self) -> bool:
        """Nothing waits for anybody, and nothing was given up."""
        stats = self.journal.stats()
        return not stats.dead_letters and not any(group.waiting for group in stats.groups.values())

    def is_done(self, live: set[str]) -> bool:
        """Nothing waits for groups that have a member, or are `live` elsewhere and about to come."""
        groups = self.journal.stats().groups
        return not any(
            groups[name].waiting
            for name, delivery in self.deliveries.items()
            if name in groups and (name in live or delivery.rules.members())
        )

    def pause(self) -> None:
        """Send nothing more; answers are heard still."""
        for delivery in self.deliveries.values():
            delivery.is_paused = True

    def close(self, discard: bool = False) -> None:
        """Blocks the greenlet while the last answers are written. With `discard`, a journal that keeps nothing is removed."""
        if self._closed:
            return
        self._closed = True
        for delivery in self.deliveries.values():
            delivery.close()
        if self.journal is None:
            return
        if discard:
            self.ask(self.journal.discard)
        else:
            in_thread(self.journal.close)
