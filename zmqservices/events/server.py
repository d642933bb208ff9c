"""The extension that all @event_handler methods of a container share: it subscribes and announces their groups.

Internal. Services use `zmqservices.events`.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

from zmqservices import configuration, constants
from zmqservices.cluster.events.consumer import EventConsumer
from zmqservices.cluster.events.incoming_event import IncomingEvent
from zmqservices.cluster.events.publisher_link import size_of
from zmqservices.cluster.events.subscription import Subscription
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import ProviderCollector, SharedExtension
from zmqservices.membership import Membership
from zmqservices.wire.messages import Event

_log = logging.getLogger(__name__)

#: The most seconds that a stop waits for publishers to read the last answers.
LAST_ANSWERS_TIMEOUT = 1.0


class Handler(Protocol):
    """A handler of events; an EventHandler."""

    prefetch: int | None

    @property
    def subscription(self) -> Subscription | None: ...

    def take_and_name_peer(self, event: IncomingEvent) -> None:
        """As `take`, for publishers that have certificates."""

    def take(self, event: IncomingEvent) -> object:
        """Queue an event for a worker. Must not block."""


class EventServer(ProviderCollector, SharedExtension):
    """Subscribes the event handlers of one container, which are its providers."""

    membership = Membership()

    def __init__(self) -> None:
        super().__init__()
        self._consumers: list[EventConsumer] = []
        self._is_announced = False
        #: Bytes of the best-effort events that wait for a worker or are being handled.
        self._best_effort_bytes = 0

    def setup(self) -> None:
        self._max_queued = configuration.whole_number(
            self.container.config, constants.MAX_QUEUED_CALLS_CONFIG_KEY, constants.DEFAULT_MAX_QUEUED_CALLS
        )
        self._max_bytes = configuration.whole_number(
            self.container.config, constants.MAX_QUEUED_BYTES_CONFIG_KEY, constants.DEFAULT_MAX_QUEUED_BYTES
        )

    # --- load shedding of best-effort events ---------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether so many jobs wait for a worker that best-effort events are dropped."""
        return self.is_bound() and bool(self.container.queued >= self._max_queued)

    def has_room_for(self, event: IncomingEvent) -> bool:
        """Whether there is room for a best-effort event, by the number of waiting jobs and by bytes.

        An accepted event counts until `handled`.
        """
        size = size_of(event.message)
        if self.is_full or (self._best_effort_bytes and self._best_effort_bytes + size > self._max_bytes):
            return False
        self._best_effort_bytes += size
        return True

    def handled(self, event: IncomingEvent) -> None:
        """A worker has handled the event."""
        if not event.is_reliable:
            self._best_effort_bytes -= size_of(event.message)

    def count_missed(self, message: Event) -> None:
        """Count one best-effort event that was dropped because the container's queue was full."""
        self._node.subscriber.broadcasts.missed += 1
        probes = self.container.probes
        if probes is not None and probes.event_dropped is not None:
            probes.event_dropped(message.source, message.type)

    # --- subscribing -------------------------------------------------------------------------------------------------

    def begin(self, handler: Handler) -> EventConsumer:
        """Subscribe `handler`. Returns when all listed publishers have confirmed, or after `events_wait_for_peers`."""
        # Announce first, because that fixes the number of the instance, which may be part of the group's name.
        self._announce()
        want = handler.subscription
        if want is None:
            raise ConfigurationError("an event handler that belongs to no service cannot subscribe")
        node = self._node
        subscriber, timeout = node.subscriber, node.settings.events.wait_for_peers
        end = monotonic() + timeout
        options = {} if want.max_deliveries is None else {"max_deliveries": want.max_deliveries}
        container = self.container
        # Where `max_workers` is `auto`, the size at the start: what waits here stands in the way of calls.
        credit = handler.prefetch or container.pool.size
        take = handler.take if node.guard is None else handler.take_and_name_peer
        consumer = subscriber.subscribe(want, take, credit, options, lambda: int(container.queued))
        self._consumers.append(consumer)
        if not self._registration.settle(timeout):
            _log.warning("%s begins without an answer of the directory: %s", want.group, node.directory.describe())
        missing = consumer.wait_until_reachable(max(end - monotonic(), 0.0))
        if missing:
            _log.warning(
                "%s begins, and %d publishers of %s have not answered within %g s: %s",
                want.group, len(missing), want.source, timeout, "; ".join(missing[:5]),
            )  # fmt: skip
        else:
            _log.info("%s handles %s of %s", want.group, want.pattern, want.source)
        return consumer

    def _announce(self) -> None:
        """List all subscriptions of the container in the directory, so that later publishers keep all their events for them."""
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

    # --- the end -----------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Called when all workers have ended: give publishers time to read the last answers before the links are closed."""
        consumers, self._consumers = self._consumers, []
        end = monotonic() + LAST_ANSWERS_TIMEOUT
        for consumer in consumers:
            consumer.leave(max(end - monotonic(), 0.0))
        for consumer in consumers:
            consumer.end()
        self._registration.retract()

    def kill(self) -> None:
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.end()
        if self._is_announced:
            self._registration.retract()
