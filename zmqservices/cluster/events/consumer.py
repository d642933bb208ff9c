"""One consumer: a handler's subscription at every publisher of its source, and the events that it has in hand.

Runs inside the reactor; `wait_until_reachable` and `leave` block the greenlet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from gevent.event import Event as Flag

from zmqservices.cluster.calls.instances import ServicePool
from zmqservices.cluster.calls.peer import Peer
from zmqservices.cluster.events.answers import Answers
from zmqservices.cluster.events.broadcast_receiver import BroadcastReceiver
from zmqservices.cluster.events.incoming_event import IncomingEvent
from zmqservices.cluster.events.publisher_link import TAKING, PublisherLink, SubscriptionStage
from zmqservices.cluster.events.subscription import Subscription
from zmqservices.utils.waiting import wait_until
from zmqservices.wire import envelope, topics
from zmqservices.wire.messages import Ack, Event, Grant, Nack, Subscribe, Unsubscribe

_log = logging.getLogger(__name__)

#: Seconds that publishers get to echo an UNSUBSCRIBE; a frozen publisher must not hold up a stop.
UNSUBSCRIBE_TIMEOUT = 2.0

#: Best-effort events that wait for a worker beyond which no more are read for a while.
LONG_QUEUE = 256

#: Seconds for which a publisher does not deliver an event again that was given back for want of room.
NO_ROOM_DELAY = 1.0

#: Event types that are remembered as matching.
TYPES_REMEMBERED = 1000

#: Number of UNSUBSCRIBEs that end a subscription in each stage: the first ends new events, the second all answers.
_UNSUBSCRIBES = {SubscriptionStage.ASKED: 2, SubscriptionStage.ON: 2, SubscriptionStage.LEAVING: 1}


class ConsumerOwner(Protocol):
    """The subscriber that a consumer belongs to; an EventSubscriber."""

    answers: Answers
    broadcasts: BroadcastReceiver

    def update_soon(self) -> None:
        """A SUBSCRIBE could not be sent: call `update` again soon."""

    def remove(self, consumer: EventConsumer) -> None:
        """The consumer ended."""


class EventConsumer:
    """One handler, at all publishers of its source. Made by `EventSubscriber.subscribe`.

    `take(event)` gets each event; it must not block. `credit`: events of each journal that a publisher may have in flight
    here. `waiting()`: how many events wait for a worker.
    """

    def __init__(
        self,
        owner: ConsumerOwner,
        id: int,
        member: str,
        pool: ServicePool,
        subscription: Subscription,
        take: Callable[[IncomingEvent], object],
        credit: int,
        options: dict[str, Any],
        waiting: Callable[[], int] | None,
    ) -> None:
        self.id = id
        self.member = member
        self.subscription = subscription
        self.take = take
        #: The publishers of the source.
        self.pool = pool
        #: No new events are wanted.
        self.is_leaving = False
        #: No event is handled any more.
        self.is_over = False
        self.links: dict[Peer, PublisherLink] = {}
        #: Events that were taken and are not answered, from all publishers, by (journal, seq).
        self.in_hand: dict[tuple[str, int], IncomingEvent] = {}
        self._owner = owner
        self._answers = owner.answers
        self._waiting = waiting
        self._credit = credit
        self._options = options
        self._changed = Flag()
        self._matches = topics.compile(subscription.pattern).matches
        self._matching: set[str] = set()

    @property
    def is_busy(self) -> bool:
        """Whether so many events wait for a worker that no more are to be read."""
        return self._waiting is not None and not self.is_over and self._waiting() >= LONG_QUEUE

    # --- subscribing -------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Publishers or links changed: subscribe at new ones, drop links that are lost."""
        for peer, link in list(self.links.items()):
            if not peer.is_up and link.stage is not SubscriptionStage.LOST:
                link.stage = SubscriptionStage.LOST
                link.clear()
                for adopter in self._adopters(link):
                    self._answers.repeat(adopter, self.subscription.group, peer)
        for instance in list(self.pool.instances.values()):
            held = self.links.get(instance.peer)
            may_ask = instance.peer.is_up and not instance.left and not self.is_leaving
            if may_ask and (held is None or held.stage is SubscriptionStage.LOST):
                self._subscribe(instance.peer, instance.record.host)
        for peer in [peer for peer, link in self.links.items() if link.stage is SubscriptionStage.LOST]:
            if not any(instance.peer is peer for instance in self.pool.instances.values()):
                self._owner.broadcasts.stop_listening(self.links.pop(peer))
        self._changed.set()

    def _adopters(self, link: PublisherLink) -> list[Peer]:
        """The other linked publishers of the host of `link`: one of them may adopt its journal.

        They were subscribed to before, so the answers are not repeated to them by a new SUBSCRIBE.
        """
        if not self.subscription.reliable:
            return []
        others = [other for other in self.links.values() if other.host == link.host and other is not link]
        return [other.peer for other in others if other.stage is not SubscriptionStage.LOST and other.peer.is_up]

    def _subscribe(self, peer: Peer, host: str) -> None:
        # Answers first: the publisher must not deliver again what is handled.
        self._answers.repeat(peer, self.subscription.group)
        former = self.links.get(peer)
        link = self.links[peer] = PublisherLink(peer, host)
        if former is not None:
            link.endpoint = former.endpoint
        want = self.subscription
        # Events in hand from a former link take their part of the credit until they are answered.
        left = sum(1 for event in self.in_hand.values() if event.link is not None and event.link.peer is peer)
        credit = max(self._credit - left, 0) if want.reliable else 0
        message = Subscribe(
            self.id, want.source, want.pattern, want.kind, self.member, want.group, want.reliable, credit, self._options
        )
        if not peer.send(envelope.encode(message)):
            link.stage = SubscriptionStage.LOST
            self._owner.update_soon()

    def confirmed(self, peer: Peer, info: dict[Any, Any]) -> None:
        """The publisher at `peer` sent SUBSCRIBED with `info`."""
        link = self.links.get(peer)
        if link is None or link.stage not in (SubscriptionStage.ASKED, SubscriptionStage.ON):
            return
        refused = info.get("refused")
        if isinstance(refused, str):
            _log.error("%s sends no events to %s: %s", peer.endpoint, self.subscription.group, refused[:1000])
            link.stage = SubscriptionStage.REFUSED
            self._changed.set()
            return
        endpoint = info.get("events")
        if isinstance(endpoint, str):
            # The publisher broadcasts there, and sends SUBSCRIBED again once it knows that this node listens.
            self._owner.broadcasts.listen(link, endpoint)
            return
        link.stage = SubscriptionStage.ON
        self._changed.set()

    def unreachable(self) -> list[str]:
        """A text for each publisher that is listed as UP and has not sent SUBSCRIBED."""
        found = []
        for instance in self.pool.instances.values():
            link = self.links.get(instance.peer)
            if instance.listed and instance.record.state == "UP" and (link is None or link.stage is not SubscriptionStage.ON):
                why = instance.peer.condition(instance) if link is None else link.stage.value
                found.append(f"{instance.record.instance} at {instance.peer.endpoint} ({why})")
        return found

    def wait_until_reachable(self, timeout: float) -> list[str]:
        """Return once all listed publishers have confirmed; after `timeout` seconds, return texts on those that have not."""
        if wait_until(lambda: not self.unreachable(), self._changed, timeout):
            return []
        return self.unreachable()

    # --- events ------------------------------------------------------------------------------------------------------

    def fits(self, message: Event) -> bool:
        """Whether the event is one of those that were subscribed to."""
        if message.source != self.subscription.source:
            return False
        if message.type not in self._matching:
            if not self._matches(message.type):
                return False
            if len(self._matching) >= TYPES_REMEMBERED:
                self._matching.clear()
            self._matching.add(message.type)
        return True

    def arrived(self, peer: Peer, message: Event) -> bool:
        """An event came on a link. False for an event that was not asked for: it is not handled."""
        link = self.links.get(peer)
        if link is None or link.stage not in TAKING or not self.fits(message):
            return False
        if message.journal == peer.node:
            # A best-effort event: it is in no journal, and no answer is expected.
            if not self.is_over:
                self.take(IncomingEvent(self, None, message))
            return True
        key = (message.journal, message.seq)
        former = self.in_hand.get(key)
        if former is not None:
            # The link was lost while the event was handled here. It is handled once, and answered on this link.
            former.move_to(link)
            # It takes no further place here, so the credit that was spent on it is given back.
            peer.send(envelope.encode(Grant(self.subscription.group, 1, self.id)))
            return True
        if self.is_over:
            return True  # The publisher is about to learn that, and sends the event to another member.
        if not link.may_take(message, self._credit):
            peer.send(envelope.encode(Nack(message.group or "", message.journal, message.seq, NO_ROOM_DELAY, None, self.id)))
            return False
        event = IncomingEvent(self, link, message)
        link.add(message)
        self.in_hand[key] = event
        self.take(event)
        return True

    def answered(self, event: IncomingEvent, answer: Ack | Nack) -> None:
        """The handler of `event` ended: send the answer."""
        message, link = event.message, event.link
        self.in_hand.pop((message.journal, message.seq), None)
        if link is None or self.is_over:
            return
        if link.stage is not SubscriptionStage.LOST:
            link.remove(message)
        self._answers.send(link, answer)
        if type(answer) is Ack and not link.peer.is_up:
            repeated = envelope.encode(Ack(answer.group, answer.journal, answer.seq))
            for adopter in self._adopters(link):
                adopter.send(repeated)

    def send_alive(self) -> None:
        """Tell publishers whose events are in hand that this process is alive, so that they do not deliver these to others."""
        alive = envelope.encode(Grant(self.subscription.group, 0, self.id))
        for link in self.links.values():
            if link.in_hand and link.stage is not SubscriptionStage.LOST and link.peer.is_up:
                link.peer.send(alive)

    # --- leaving -----------------------------------------------------------------------------------------------------

    def leave(self, timeout: float = UNSUBSCRIBE_TIMEOUT) -> None:
        """Take no more events. Returns when every publisher has confirmed that, or after `timeout` seconds.

        To be called again once all events are answered: a publisher that then confirms has read the answers.
        """
        if self.is_over:
            return
        self.is_leaving = True
        self._answers.flush()
        for link in self.links.values():
            if link.stage in (SubscriptionStage.ASKED, SubscriptionStage.ON, SubscriptionStage.OFF) and link.peer.is_up:
                link.stage = SubscriptionStage.LEAVING
                link.peer.send(envelope.encode(Unsubscribe(self.id)))
        wait_until(self._has_left, self._changed, timeout)

    def _has_left(self) -> bool:
        return not any(link.stage is SubscriptionStage.LEAVING for link in self.links.values())

    def unsubscribed(self, peer: Peer) -> None:
        """The publisher at `peer` echoed an UNSUBSCRIBE."""
        link = self.links.get(peer)
        if link is not None and link.stage is SubscriptionStage.LEAVING:
            link.stage = SubscriptionStage.OFF
            self._changed.set()

    def end(self) -> None:
        """End for good: events that are not answered go to other members at once."""
        self.is_leaving = self.is_over = True
        self._answers.flush()
        for link in self.links.values():
            for _ in range(_UNSUBSCRIBES.get(link.stage, 0) if link.peer.is_up else 0):
                link.peer.send(envelope.encode(Unsubscribe(self.id)))
        self.in_hand.clear()
        self._owner.remove(self)
