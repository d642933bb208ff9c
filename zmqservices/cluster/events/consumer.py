"""The consumer of one handler: its subscription at every publisher of the source, and its unanswered events.

Runs inside the reactor. `wait_until_reachable` and `leave` block the greenlet.
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

#: The most seconds that a stop waits for publishers to echo an UNSUBSCRIBE. A frozen publisher never does.
UNSUBSCRIBE_TIMEOUT = 2.0

#: If more best-effort events than this wait for a worker, no more are read for a while.
LONG_QUEUE = 256

#: Seconds after which a publisher delivers an event again that was given back because there was no room.
NO_ROOM_DELAY = 1.0

#: The most event types that are remembered as matching.
TYPES_REMEMBERED = 1000

#: How many UNSUBSCRIBEs end a subscription in each stage. The first one ends new events, the second one all answers.
_UNSUBSCRIBES = {SubscriptionStage.ASKED: 2, SubscriptionStage.ON: 2, SubscriptionStage.LEAVING: 1}


class ConsumerOwner(Protocol):
    """The subscriber that a consumer belongs to; an EventSubscriber."""

    answers: Answers
    broadcasts: BroadcastReceiver

    def update_soon(self) -> None:
        """A SUBSCRIBE could not be sent: call `update` again soon."""

    def remove(self, consumer: EventConsumer) -> None:
        """Remove a consumer that has ended."""


class EventConsumer:
    """The consumer of one handler. Made by `EventSubscriber.subscribe`.

    `take(event)` gets each event and must not block. `credit`: how many events of each journal a publisher may have in flight
    here. `waiting()`: the number of events that wait for a worker.
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
        #: The pool of the source's publishers.
        self.pool = pool
        #: Whether no new events are wanted.
        self.is_leaving = False
        #: Whether no event is handled any more.
        self.is_over = False
        self.links: dict[Peer, PublisherLink] = {}
        #: The unanswered events of all publishers, by (origin, seq).
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
        """Whether so many events wait for a worker that no more should be read."""
        return self._waiting is not None and not self.is_over and self._waiting() >= LONG_QUEUE

    # --- subscribing -------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Publishers or links have changed: subscribe at new publishers, and drop lost links."""
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
        """The other linked publishers on the host of `link`. One of them may adopt its journal.

        They have the subscription already, so no new SUBSCRIBE repeats the answers to them.
        """
        if not self.subscription.reliable:
            return []
        others = [other for other in self.links.values() if other.host == link.host and other is not link]
        return [other.peer for other in others if other.stage is not SubscriptionStage.LOST and other.peer.is_up]

    def _subscribe(self, peer: Peer, host: str) -> None:
        # Answers first, so that the publisher does not deliver handled events again.
        self._answers.repeat(peer, self.subscription.group)
        former = self.links.get(peer)
        link = self.links[peer] = PublisherLink(peer, host)
        if former is not None:
            link.endpoint = former.endpoint
        want = self.subscription
        # Unanswered events of a former link use their part of the credit.
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
            # The publisher's broadcasts. It sends SUBSCRIBED again once it knows that this node listens to them.
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
        """Return [] once all listed publishers have confirmed, or after `timeout` seconds a text about each that has not."""
        if wait_until(lambda: not self.unreachable(), self._changed, timeout):
            return []
        return self.unreachable()

    # --- events ------------------------------------------------------------------------------------------------------

    def fits(self, message: Event) -> bool:
        """Whether the consumer subscribed to this event."""
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
        """Take an event that came on a link. Returns False for an event without subscription or credit, which is not handled."""
        link = self.links.get(peer)
        if link is None or link.stage not in TAKING or not self.fits(message):
            return False
        if message.origin == peer.node:
            # A best-effort event: it is in no journal, and no answer is expected.
            if not self.is_over:
                self.take(IncomingEvent(self, None, message))
            return True
        key = (message.origin, message.seq)
        former = self.in_hand.get(key)
        if former is not None:
            # The event is still being handled here since before the link was lost. It is not handled twice, and is answered on
            # this link.
            former.move_to(link)
            # The repetition needs no further room here, so its credit is given back.
            peer.send(envelope.encode(Grant(self.subscription.group, 1, self.id)))
            return True
        if self.is_over:
            return True  # The publisher will know soon that this member has ended, and sends the event to another one.
        if not link.may_take(message, self._credit):
            peer.send(envelope.encode(Nack(message.group or "", message.origin, message.seq, NO_ROOM_DELAY, None, self.id)))
            return False
        event = IncomingEvent(self, link, message)
        link.add(message)
        self.in_hand[key] = event
        self.take(event)
        return True

    def answered(self, event: IncomingEvent, answer: Ack | Nack) -> None:
        """The handler of `event` has ended: send the answer."""
        message, link = event.message, event.link
        self.in_hand.pop((message.origin, message.seq), None)
        if link is None or self.is_over:
            return
        if link.stage is not SubscriptionStage.LOST:
            link.remove(message)
        self._answers.send(link, answer)
        if type(answer) is Ack and not link.peer.is_up:
            repeated = envelope.encode(Ack(answer.group, answer.origin, answer.seq))
            for adopter in self._adopters(link):
                adopter.send(repeated)

    def send_alive(self) -> None:
        """Tell publishers of unanswered events that this process is alive, so that they do not deliver these to others."""
        alive = envelope.encode(Grant(self.subscription.group, 0, self.id))
        for link in self.links.values():
            if link.in_hand and link.stage is not SubscriptionStage.LOST and link.peer.is_up:
                link.peer.send(alive)

    # --- leaving -----------------------------------------------------------------------------------------------------

    def leave(self, timeout: float = UNSUBSCRIBE_TIMEOUT) -> None:
        """Take no more events. Returns when every publisher has confirmed that, or after `timeout` seconds.

        Call it again once all events are answered: a publisher that then confirms has read the answers.
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
        """End the consumer. Its unanswered events go to other members at once."""
        self.is_leaving = self.is_over = True
        self._answers.flush()
        for link in self.links.values():
            for _ in range(_UNSUBSCRIBES.get(link.stage, 0) if link.peer.is_up else 0):
                link.peer.send(envelope.encode(Unsubscribe(self.id)))
        self.in_hand.clear()
        self._owner.remove(self)
