"""What all @event_handler methods of a container share: its place in the cluster, and one word about it in the directory.

Internal. Services use `zmqservices.events`.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

from zmqservices import configuration, constants
from zmqservices.cluster.events.consumer import EventConsumer
from zmqservices.cluster.events.incoming_event import IncomingEvent
from zmqservices.cluster.events.publisher_link import size_of
from zmqservices.extensions import ProviderCollector, SharedExtension
from zmqservices.membership import Membership

_log = logging.getLogger(__name__)

#: Seconds that publishers get, in the end, to read the last answers.
LAST_ANSWERS_TIMEOUT = 1.0


class EventServer(ProviderCollector, SharedExtension):
    """The handlers of a container are its providers."""

    membership = Membership()

    def __init__(self) -> None:
        super().__init__()
        self._consumers: list[EventConsumer] = []
        self._is_announced = False
        #: Bytes of the events without a promise that wait for a worker or are handled.
        self._casual_bytes = 0

    def setup(self) -> None:
        self._max_queued = configuration.whole_number(
            self.container.config, constants.MAX_QUEUED_CALLS_CONFIG_KEY, constants.DEFAULT_MAX_QUEUED_CALLS
        )
        self._max_bytes = configuration.whole_number(
            self.container.config, constants.MAX_QUEUED_BYTES_CONFIG_KEY, constants.DEFAULT_MAX_QUEUED_BYTES
        )

    @property
    def is_full(self) -> bool:
        """Whether so many wait for a worker that what was not promised is thrown away."""
        return self.is_bound() and bool(self.container.queued >= self._max_queued)

    def has_room_for(self, event: IncomingEvent) -> bool:
        """Whether an event without a promise is taken, by how many wait for a worker and what they take; `handled` follows."""
        size = size_of(event.message)
        if self.is_full or (self._casual_bytes and self._casual_bytes + size > self._max_bytes):
            return False
        self._casual_bytes += size
        return True

    def handled(self, event: IncomingEvent) -> None:
        """A worker is through with it."""
        if not event.is_reliable:
            self._casual_bytes -= size_of(event.message)

    def missed(self) -> None:
        """One was."""
        self._node.subscriber.broadcasts.missed += 1

    def begin(self, handler: Any) -> EventConsumer:
        """Subscribe `handler`, and return when all publishers that are there know of it, or have had their time."""
        self._announce()
        node = self._node
        subscriber, patience = node.subscriber, node.settings.events.wait_for_peers
        want = handler.subscription
        end = monotonic() + patience
        options = {} if want.max_deliveries is None else {"max_deliveries": want.max_deliveries}
        container = self.container
        credit = handler.prefetch or container.max_workers
        consumer = subscriber.subscribe(want, handler.take, credit, options, lambda: int(container.queued))
        self._consumers.append(consumer)
        if not self._registration.settle(patience):
            _log.warning("%s begins without a word from the directory: %s", want.group, node.directory.describe())
        missing = consumer.wait_until_reachable(max(end - monotonic(), 0.0))
        if missing:
            _log.warning(
                "%s begins, and %d publishers of %s have not answered within %g s: %s",
                want.group, len(missing), want.source, patience, "; ".join(missing[:5]),
            )  # fmt: skip
        else:
            _log.info("%s handles %s of %s", want.group, want.pattern, want.source)
        return consumer

    def _announce(self) -> None:
        """Say in the directory what is handled here, so that publishers which come later keep it from their first event."""
        if self._is_announced:
            return
        self._node = self.membership.join()
        registration = self._registration = self.membership.registration()
        self._is_announced = True
        self.membership.before_leaving(self._leave)
        self._node.groups.hold(registration.id, [handler.subscription for handler in self._providers])
        wants = [handler.subscription.to_dict() for handler in self._providers]
        state = {} if registration.record is not None else {"state": "UP"}
        registration.amend(subscriptions=sorted(wants, key=lambda want: str(want["group"])), **state)

    def _leave(self) -> None:
        """All workers are over: publishers shall have read the last answers before the links are cut."""
        consumers, self._consumers = self._consumers, []
        end = monotonic() + LAST_ANSWERS_TIMEOUT
        for consumer in consumers:
            consumer.leave(max(end - monotonic(), 0.0))
        for consumer in consumers:
            consumer.end()
        self._registration.retract()

    def kill(self) -> None:
        self._leave_at_once()

    def _leave_at_once(self) -> None:
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.end()
        if self._is_announced:
            self._registration.retract()
