"""One handler of events: its subscription at every publisher of its source, and what it has in hand.

How a tie of one intake to one publisher goes:

    (linked) --SUBSCRIBE--> ASKED --SUBSCRIBED--> ON --UNSUBSCRIBE--> LEAVING --its echo--> OFF
        \\______ the link is lost: what was answered lately is answered again on the next one, to whatever process that is
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent.event import Event as Flag

from zmqservices.cluster.calls.peer import Peer
from zmqservices.cluster.events.subscription import Subscription, publishing
from zmqservices.wire import codec, envelope, topics
from zmqservices.wire.messages import Ack, Event, Grant, Nack, Subscribe, Unsubscribe

_log = logging.getLogger(__name__)

#: Seconds that publishers get to echo an UNSUBSCRIBE; one that is frozen must not hold up a stop.
FAREWELL_TIMEOUT = 2.0

#: Best-effort events that wait for a worker beyond which no more are read for a while, and how many seconds that is.
LONG_QUEUE, PAUSE = 256, 0.002

#: Bytes of events in hand of one publisher beyond which no more come than the credit of one journal.
ROOM = 64 << 20

#: Seconds for which a publisher keeps an event to itself that was given back for want of room.
NO_ROOM_DELAY = 1.0

#: Event types that are known to fit.
TYPES_REMEMBERED = 1000


class SubscriptionStage(enum.Enum):
    ASKED = "has not answered"
    ON = "on"
    LEAVING = "leaving"
    OFF = "off"
    LOST = "not connected"
    REFUSED = "refused"


#: The stages in which events come.
TAKING = (SubscriptionStage.ASKED, SubscriptionStage.ON, SubscriptionStage.LEAVING)


def size_of(message: Event) -> int:
    """Bytes that the data of an event takes. Publishers of this package send bytes; what others may send is measured."""
    body = message.body
    return len(body) if type(body) is bytes else len(codec.pack(body))


#: How many times its credit may be in hand, by stage: what was sent before a subscription was renewed may still come.
_TIMES_OF_CREDIT = {SubscriptionStage.ASKED: 2, SubscriptionStage.ON: 2, SubscriptionStage.LEAVING: 1}


class PublisherLink:
    """One intake's subscription on one link."""

    __slots__ = ("peer", "host", "stage", "in_hand", "bytes", "journals", "endpoint")

    def __init__(self, peer: Peer, host: str) -> None:
        self.peer = peer
        #: Where its publisher is: another one there takes over its journal, should it not return.
        self.host = host
        self.stage = SubscriptionStage.ASKED
        #: Events that came on this link and are not answered.
        self.in_hand = 0
        #: The bytes of those that came first on it, and how many of them each journal has.
        self.bytes = 0
        self.journals: dict[str, int] = {}
        #: Where its publisher broadcasts; None where that is not needed.
        self.endpoint: str | None = None

    def add(self, message: Event) -> None:
        """One more is in hand."""
        self.in_hand += 1
        self.bytes += size_of(message)
        self.journals[message.journal] = self.journals.get(message.journal, 0) + 1

    def remove(self, message: Event) -> None:
        """It was answered, or came again on another link."""
        self.in_hand -= 1
        self.bytes -= size_of(message)
        left = self.journals.get(message.journal, 0) - 1
        if left > 0:
            self.journals[message.journal] = left
        else:
            self.journals.pop(message.journal, None)

    def forget_all(self) -> None:
        """The link is lost: what came on it may come again on another."""
        self.in_hand = self.bytes = 0
        self.journals.clear()

    def may_take(self, message: Event, credit: int) -> bool:
        """Whether its publisher keeps to its credit, `credit` events of each journal, and to what there is room for.

        What one journal may send by its credit is taken whatever its size; more than that of several journals is not.
        """
        if self.in_hand < credit:
            return True
        return self.bytes <= ROOM and self.journals.get(message.journal, 0) < credit


class IncomingEvent:
    """One event to be answered once, by `done` or `failed`; without a promise, both do nothing."""

    __slots__ = ("consumer", "link", "message", "is_open")

    def __init__(self, consumer: EventConsumer, link: PublisherLink | None, message: Event) -> None:
        self.consumer = consumer
        self.link = link
        self.message = message
        self.is_open = link is not None

    @property
    def is_reliable(self) -> bool:
        """Whether it comes again when it is not `done`."""
        return self.link is not None

    def take_over(self, link: PublisherLink | None) -> None:
        """It came again on this link: there it is in hand now. On the same link it is counted already."""
        if self.link is link:
            return
        if self.link is not None and self.link.stage is not SubscriptionStage.LOST:
            self.link.remove(self.message)
        if link is not None:
            link.add(self.message)
        self.link = link

    def done(self) -> None:
        """The handler is through with it: it is not to come again."""
        if self.is_open:
            message = self.message
            self._answer(Ack(message.group or "", message.journal, message.seq, None, self.consumer.id))

    def failed(self, error: dict[str, Any] | None, delay: float = 0.0) -> None:
        """It is to come again, to somebody; without an `error` it was not tried."""
        if self.is_open:
            message = self.message
            self._answer(Nack(message.group or "", message.journal, message.seq, delay, error, self.consumer.id))

    def _answer(self, answer: Ack | Nack) -> None:
        self.is_open = False
        self.consumer.answered(self, answer)


class EventConsumer:
    """One handler, at all publishers of its source. Made by `EventSubscriber.subscribe`."""

    def __init__(
        self,
        subscriber: Any,
        id: int,
        subscription: Subscription,
        take: Callable[[IncomingEvent], None],
        credit: int,
        options: dict[str, Any],
        waiting: Callable[[], int] | None,
    ) -> None:
        self.subscription = subscription
        self.take = take
        #: How many events wait for a worker there.
        self.waiting = waiting
        self.id = id
        self.member = f"{subscriber.member}.{id}"
        self.is_leaving = False
        self.is_over = False
        self.links: dict[Peer, PublisherLink] = {}
        #: Events taken and not answered, over all publishers.
        self.in_hand: dict[tuple[str, int], IncomingEvent] = {}
        self.pool = subscriber.caller.expect(publishing(subscription.source))
        self._subscriber = subscriber
        self._credit = credit
        self._options = options
        self._changed = Flag()
        self._matches = topics.compile(subscription.pattern).matches
        self._fitting: set[str] = set()

    @property
    def is_busy(self) -> bool:
        """So many wait for a worker that no more are read."""
        return self.waiting is not None and not self.is_over and self.waiting() >= LONG_QUEUE

    # --- subscribing -------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Something changed about publishers: subscribe where that is not done, forget ties whose link is gone."""
        for peer, link in list(self.links.items()):
            if not peer.is_up and link.stage is not SubscriptionStage.LOST:
                link.stage = SubscriptionStage.LOST
                link.forget_all()
                for heir in self._heirs(link):
                    self._subscriber.repeat_answers(heir, self.subscription, peer)
        for instance in list(self.pool.instances.values()):
            held = self.links.get(instance.peer)
            may_ask = instance.peer.is_up and not instance.left and not self.is_leaving
            if may_ask and (held is None or held.stage is SubscriptionStage.LOST):
                self._subscribe(instance.peer, instance.record.host)
        for peer in [peer for peer, link in self.links.items() if link.stage is SubscriptionStage.LOST]:
            if not any(instance.peer is peer for instance in self.pool.instances.values()):
                self._subscriber.hang_up(self.links.pop(peer))
        self._changed.set()

    def _heirs(self, link: PublisherLink) -> list[Peer]:
        """The other publishers of its host that are there. They have been asked for events already, and so been told all."""
        if not self.subscription.reliable:
            return []
        others = [other for other in self.links.values() if other.host == link.host and other is not link]
        return [other.peer for other in others if other.stage is not SubscriptionStage.LOST and other.peer.is_up]

    def _subscribe(self, peer: Peer, host: str) -> None:
        # First what it may not have heard: it must not send again what is done.
        self._subscriber.repeat_answers(peer, self.subscription)
        former = self.links.get(peer)
        link = self.links[peer] = PublisherLink(peer, host)
        if former is not None:
            link.endpoint = former.endpoint
        self._ask(link)

    def _ask(self, link: PublisherLink) -> None:
        want = self.subscription
        # What is still in hand from a former link takes its part of the credit until it is answered.
        left = sum(1 for event in self.in_hand.values() if event.link is not None and event.link.peer is link.peer)
        credit = max(self._credit - left, 0) if want.reliable else 0
        message = Subscribe(
            self.id, want.source, want.pattern, want.kind, self.member, want.group, want.reliable, credit, self._options
        )
        if not link.peer.send(envelope.encode(message)):
            link.stage = SubscriptionStage.LOST
            self._subscriber.look_later()

    def confirmed(self, peer: Peer, info: dict[Any, Any]) -> None:
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
            # It broadcasts there, and answers again once it has heard of us on that way.
            self._subscriber.listen(link, endpoint)
            return
        link.stage = SubscriptionStage.ON
        self._changed.set()

    def unreachable(self) -> list[str]:
        """The publishers that are listed as UP and have not said SUBSCRIBED, in words."""
        found = []
        for instance in self.pool.instances.values():
            link = self.links.get(instance.peer)
            if instance.listed and instance.record.state == "UP" and (link is None or link.stage is not SubscriptionStage.ON):
                why = instance.peer.condition(instance) if link is None else link.stage.value
                found.append(f"{instance.record.instance} at {instance.peer.endpoint} ({why})")
        return found

    def wait_until_reachable(self, timeout: float) -> list[str]:
        """Return once all publishers that are listed have confirmed; after `timeout` seconds those that have not."""
        end = monotonic() + timeout
        while missing := self.unreachable():
            left = end - monotonic()
            if left <= 0:
                return missing
            self._changed.clear()
            self._changed.wait(left)
        return []

    # --- events ------------------------------------------------------------------------------------------------------

    def fits(self, message: Event) -> bool:
        """Whether the event is one of those that were subscribed to."""
        if message.source != self.subscription.source:
            return False
        if message.type not in self._fitting:
            if not self._matches(message.type):
                return False
            if len(self._fitting) >= TYPES_REMEMBERED:
                self._fitting.clear()
            self._fitting.add(message.type)
        return True

    def arrived(self, peer: Peer, message: Event) -> bool:
        """An event came on a link; False for one that was not asked for, which nobody handles."""
        link = self.links.get(peer)
        if link is None or link.stage not in TAKING or not self.fits(message):
            return False
        if message.journal == peer.node:
            # Dispatched without a promise: it is in no journal, and nobody waits for an answer.
            if not self.is_over:
                self.take(IncomingEvent(self, None, message))
            return True
        key = (message.journal, message.seq)
        former = self.in_hand.get(key)
        if former is not None:
            # The link was lost while it is being handled: once more is not needed, its answer will come on this link.
            former.take_over(link)
            # It takes the place that it has taken before: the credit that was spent on it is given again.
            peer.send(envelope.encode(Grant(self.subscription.group, 1, self.id)))
            return True
        if self.is_over:
            return True  # Its publisher hears that we are gone, and sends it to somebody else.
        if not link.may_take(message, self._credit):
            peer.send(envelope.encode(Nack(message.group or "", message.journal, message.seq, NO_ROOM_DELAY, None, self.id)))
            return False
        event = IncomingEvent(self, link, message)
        link.add(message)
        self.in_hand[key] = event
        self.take(event)
        return True

    def answered(self, event: IncomingEvent, answer: Ack | Nack) -> None:
        message, link = event.message, event.link
        self.in_hand.pop((message.journal, message.seq), None)
        if link is None or self.is_over:
            return
        if link.stage is not SubscriptionStage.LOST:
            link.remove(message)
        self._subscriber.answer(link, answer)
        if type(answer) is Ack and not link.peer.is_up:
            again = envelope.encode(Ack(answer.group, answer.journal, answer.seq))
            for heir in self._heirs(link):
                heir.send(again)

    def say_at_work(self) -> None:
        """Publishers whose events are in hand hear that the hub turns."""
        word = envelope.encode(Grant(self.subscription.group, 0, self.id))
        for link in self.links.values():
            if link.in_hand and link.stage is not SubscriptionStage.LOST and link.peer.is_up:
                link.peer.send(word)

    # --- leaving -----------------------------------------------------------------------------------------------------

    def leave(self, timeout: float = FAREWELL_TIMEOUT) -> None:
        """No more events: returns when every publisher has confirmed that, or after `timeout`.

        To be called again once what was taken is answered: publishers that confirm then have read the answers.
        """
        if self.is_over:
            return
        self.is_leaving = True
        self._subscriber.tell_done()
        for link in self.links.values():
            if link.stage in (SubscriptionStage.ASKED, SubscriptionStage.ON, SubscriptionStage.OFF) and link.peer.is_up:
                link.stage = SubscriptionStage.LEAVING
                link.peer.send(envelope.encode(Unsubscribe(self.id)))
        end = monotonic() + timeout
        while any(link.stage is SubscriptionStage.LEAVING for link in self.links.values()):
            left = end - monotonic()
            if left <= 0:
                break
            self._changed.clear()
            self._changed.wait(left)

    def echoed(self, peer: Peer) -> None:
        link = self.links.get(peer)
        if link is not None and link.stage is SubscriptionStage.LEAVING:
            link.stage = SubscriptionStage.OFF
            self._changed.set()

    def end(self) -> None:
        """Gone for good: what is not answered by now goes to others at once."""
        self.is_leaving = self.is_over = True
        self._subscriber.tell_done()
        for link in self.links.values():
            # Said twice: nothing will be answered any more.
            times = _TIMES_OF_CREDIT.get(link.stage, 0)
            for _ in range(times if link.peer.is_up else 0):
                link.peer.send(envelope.encode(Unsubscribe(self.id)))
        self.in_hand.clear()
        self._subscriber.forget(self)
