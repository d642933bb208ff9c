"""The subscriber of one node: its consumers, and the messages that publishers send them.

Runs on a gevent hub, inside the node's reactor. A handler is a `Subscription` and a function `take(event)`, which must not block,
and must ensure that `event.done()` or `event.failed()` is called once.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from zmqservices.cluster.calls.caller import Caller
from zmqservices.cluster.calls.peer import Peer
from zmqservices.cluster.events.answers import Answers
from zmqservices.cluster.events.broadcast_receiver import BroadcastReceiver
from zmqservices.cluster.events.consumer import EventConsumer
from zmqservices.cluster.events.incoming_event import IncomingEvent
from zmqservices.cluster.events.publisher_link import PublisherLink, SubscriptionStage
from zmqservices.cluster.events.subscription import Subscription, publishing
from zmqservices.transport import Sockets
from zmqservices.transport.reactor import ReactorTimer
from zmqservices.wire.messages import Event, Gap, Subscribed, Unsubscribe

_log = logging.getLogger(__name__)

#: Seconds between two messages that show that a member is alive, until a publisher says how long it waits for one.
ALIVE_INTERVAL = 5.0

#: Seconds after which a SUBSCRIBE for which a link had no room is tried again.
RETRY_INTERVAL = 0.05

#: Seconds between two log lines about events without subscription or credit.
REFUSAL_LOG_INTERVAL = 60.0


class EventSubscriber:
    """All consumers of one node, whose members are named `MEMBER.1`, `MEMBER.2`, ..."""

    def __init__(
        self,
        caller: Caller,
        sockets: Sockets,
        member: str,
        clock: Callable[[], float] = monotonic,
        has_broadcasts: bool = True,
    ) -> None:
        self.caller = caller
        self.member = member
        self.answers = Answers(caller.reactor, clock)
        self.broadcasts = BroadcastReceiver(caller.reactor, sockets, self._links, clock, caller.header_limits)
        #: The number of events that came without subscription or credit.
        self.refused = 0
        #: Whether publishers broadcast best-effort events. With SECURITY they come over the links of calls.
        self._has_broadcasts = has_broadcasts
        self._reactor = caller.reactor
        self._clock = clock
        self._ids = itertools.count(1)
        self._consumers: dict[int, EventConsumer] = {}
        self._by_group: dict[str, list[EventConsumer]] = {}
        self._refused_logged_at = -REFUSAL_LOG_INTERVAL
        self._alive_interval = ALIVE_INTERVAL
        self._alive_timer: ReactorTimer | None = None
        self._update_is_due = False
        self._closed = False
        caller.on_change.append(self.update)
        caller.other_kinds.update(
            {Event: self._on_event, Subscribed: self._on_subscribed, Unsubscribe: self._on_unsubscribed, Gap: self._on_gap}
        )

    def subscribe(
        self,
        subscription: Subscription,
        take: Callable[[IncomingEvent], object],
        credit: int,
        options: dict[str, Any] | None = None,
        waiting: Callable[[], int] | None = None,
    ) -> EventConsumer:
        """Subscribe at all publishers of the source, also at later ones. See `EventConsumer` for the arguments.

        To wait for the present publishers, call `EventConsumer.wait_until_reachable`.
        """
        options = {"start": subscription.start, **(options or {})}
        id = next(self._ids)
        pool = self.caller.expect(publishing(subscription.source))
        consumer = EventConsumer(self, id, f"{self.member}.{id}", pool, subscription, take, credit, options, waiting)
        self._consumers[id] = consumer
        self._by_group.setdefault(subscription.group, []).append(consumer)
        if not subscription.reliable and self._has_broadcasts:
            self.broadcasts.add(consumer)
        consumer.update()
        self._set_alive_timer()
        return consumer

    def remove(self, consumer: EventConsumer) -> None:
        """Remove a consumer that has ended."""
        if self._consumers.pop(consumer.id, None) is not None:
            group = consumer.subscription.group
            self._by_group[group].remove(consumer)
            if not self._by_group[group]:
                del self._by_group[group]
                self.answers.drop_group(group)
            for link in consumer.links.values():
                self.broadcasts.stop_listening(link)
            if not consumer.subscription.reliable and self._has_broadcasts:
                self.broadcasts.remove(consumer)

    def _links(self) -> Iterable[PublisherLink]:
        return (link for consumer in self._consumers.values() for link in consumer.links.values())

    # --- changes of publishers and links ----------------------------------------------------------------------------

    def update(self) -> None:
        """Called after each change of links and of listed publishers."""
        for consumer in list(self._consumers.values()):
            consumer.update()

    def update_soon(self) -> None:
        """A SUBSCRIBE could not be sent: call `update` again soon."""
        if not self._update_is_due and not self._closed:
            self._update_is_due = True
            self._reactor.call_later(RETRY_INTERVAL, self._update_now)

    def _update_now(self) -> None:
        self._update_is_due = False
        if not self._closed:
            self.update()

    # --- messages of publishers --------------------------------------------------------------------------------------

    def _on_subscribed(self, peer: Peer, message: Subscribed) -> None:
        consumer = self._consumers.get(message.id)
        info = message.info or {}
        wait = info.get("ack_wait")
        if isinstance(wait, (int, float)) and 0 < wait / 3 < self._alive_interval:
            self._alive_interval = max(wait / 3, 0.05)
            self._cancel_alive_timer()
            self._set_alive_timer()
        if consumer is not None:
            consumer.confirmed(peer, info)

    def _on_unsubscribed(self, peer: Peer, message: Unsubscribe) -> None:
        consumer = self._consumers.get(message.id)
        if consumer is not None:
            consumer.unsubscribed(peer)

    def _on_event(self, peer: Peer, message: Event) -> None:
        consumer = self._consumers.get(message.subscription or 0)
        if consumer is None or consumer.subscription.group != message.group or not consumer.arrived(peer, message):
            self._refuse(peer)

    def _refuse(self, peer: Peer) -> None:
        self.refused += 1
        now = self._clock()
        if now - self._refused_logged_at >= REFUSAL_LOG_INTERVAL:
            self._refused_logged_at = now
            _log.warning(
                "refused %d events so far that were not subscribed to, or for which no credit was given; the last came from %s",
                self.refused, peer.endpoint,
            )  # fmt: skip

    def _on_gap(self, peer: Peer, message: Gap) -> None:
        _log.error(
            "events %d to %d of journal %s are lost for %s: %s",
            message.from_seq, message.to_seq, message.origin[:100], message.group[:1000], message.reason[:1000],
        )  # fmt: skip

    # --- signs of life -----------------------------------------------------------------------------------------------

    def _set_alive_timer(self) -> None:
        if self._alive_timer is None and self._consumers and not self._closed:
            self._alive_timer = self._reactor.call_later(self._alive_interval, self._send_alive)

    def _cancel_alive_timer(self) -> None:
        if self._alive_timer is not None:
            self._alive_timer.cancel()
            self._alive_timer = None

    def _send_alive(self) -> None:
        self._alive_timer = None
        if not self._closed:
            for consumer in self._consumers.values():
                if consumer.in_hand:
                    consumer.send_alive()
            self.answers.expire({
                link.host for link in self._links() if link.stage is SubscriptionStage.ON and link.peer.is_up
            })  # fmt: skip
            self._set_alive_timer()

    def close(self) -> None:
        """The node is closed: end all consumers."""
        if self._closed:
            return
        self._closed = True
        self._consumers.clear()
        self._by_group.clear()
        self.answers.clear()
        self._cancel_alive_timer()
        self.broadcasts.close()
