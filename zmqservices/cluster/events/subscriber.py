"""The member's half of events: subscribes at every publisher of a source, takes what they send, answers it.

Runs on a gevent hub, inside the node's reactor. A handler is a `Subscription` and a function `take(event)` that must not
block and sees to it that `event.done()` or `event.failed()` is called once.
"""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from zmqservices.cluster.calls.caller import Caller
from zmqservices.cluster.calls.peer import Peer
from zmqservices.cluster.events.consumer import PAUSE, EventConsumer, IncomingEvent, PublisherLink, SubscriptionStage
from zmqservices.cluster.events.subscription import BROADCAST, Subscription, broadcast_topic, member_topic
from zmqservices.exceptions import ProtocolError
from zmqservices.transport import BroadcastSubscriber, Sockets, UnusableEndpoint
from zmqservices.transport.faults import Faults
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Event, Gap, Nack, Subscribed, Unsubscribe

_log = logging.getLogger(__name__)

#: Answers that are repeated on the next link, of each journal: those that its publisher may not have heard.
ANSWERS_KEPT = 1024

#: Seconds for which an answer is in doubt while the link stands. One that is lost is found out sooner, by its heartbeats;
#: a publisher that reads it writes it down within 50 ms.
DOUBT = 30.0

#: Journals of which answers are kept.
JOURNALS_KEPT = 256

#: Seconds between two words that a handler is at work, until a publisher says how long it waits for one.
AT_WORK_INTERVAL = 5.0

#: Seconds between two lines in the log about best-effort events that were lost.
LOSS_LOG_INTERVAL = 10.0

#: Seconds between two lines in the log about events that were not asked for.
REFUSAL_LOG_INTERVAL = 60.0


class Answers:
    """What of one journal was handled for one group, and may be unknown to who serves that journal now."""

    __slots__ = ("link", "seqs", "times")

    def __init__(self) -> None:
        #: Over which it came when an event of it was last answered.
        self.link: PublisherLink | None = None
        self.seqs: deque[int] = deque(maxlen=ANSWERS_KEPT)
        self.times: deque[float] = deque(maxlen=ANSWERS_KEPT)

    def keep(self, link: PublisherLink, seqs: list[int], now: float) -> None:
        self.link = link
        self.seqs.extend(seqs)
        self.times.extend([now] * len(seqs))

    def let_go(self, now: float, hosts: set[str]) -> None:
        """Those that have been heard by now, since a publisher of its host is there: it was told before it could send."""
        if self.link is not None and self.link.host in hosts:
            while self.times and now - self.times[0] > DOUBT:
                self.times.popleft()
                self.seqs.popleft()


class EventSubscriber:
    """All intakes of one node."""

    def __init__(self, caller: Caller, sockets: Sockets, member: str) -> None:
        self.caller = caller
        self.member = member
        #: Best-effort events that were sent and have not come, and those that were thrown away here, for want of room.
        self.missed = 0
        self._sockets = sockets
        self._reactor = caller.reactor
        self._faults = Faults(_log)
        self._ids = itertools.count(1)
        self._consumers: dict[int, EventConsumer] = {}
        self._by_group: dict[str, list[EventConsumer]] = {}
        self._by_topic: dict[bytes, list[EventConsumer]] = {}
        #: By group and journal, those that were answered last at the end.
        self._answers: OrderedDict[tuple[str, str], Answers] = OrderedDict()
        self._done: dict[tuple[PublisherLink, str, str, int | None], list[int]] = {}
        self._broadcasts: BroadcastSubscriber | None = None
        self._to_flush: set[EventConsumer] = set()
        self._endpoints: dict[str, int] = {}
        #: The last number of each publisher's node that is listened to, for each topic.
        self._counts: dict[str, dict[bytes, int]] = {}
        #: Events that came on a link without a subscription or without credit.
        self.refused = 0
        self._refused_told_at = -REFUSAL_LOG_INTERVAL
        self._missed_told = 0
        self._missed_told_at = -LOSS_LOG_INTERVAL
        self._at_work_interval = AT_WORK_INTERVAL
        self._words_timer: Any = None
        self._is_due = False
        self._closed = False
        caller.on_change.append(self.look)
        caller.other_kinds.update(
            {Event: self._on_event, Subscribed: self._on_subscribed, Unsubscribe: self._on_echo, Gap: self._on_gap}
        )

    def subscribe(
        self,
        subscription: Subscription,
        take: Callable[[IncomingEvent], None],
        credit: int,
        options: dict[str, Any] | None = None,
        waiting: Callable[[], int] | None = None,
    ) -> EventConsumer:
        """Begin. Publishers that come later are found as well.

        See `EventConsumer.wait_until_reachable` for those that are there.
        """
        options = {"start": subscription.start, **(options or {})}
        consumer = EventConsumer(self, next(self._ids), subscription, take, credit, options, waiting)
        self._consumers[consumer.id] = consumer
        self._by_group.setdefault(subscription.group, []).append(consumer)
        if not subscription.reliable:
            self._tune(consumer)
        consumer.look()
        self._time_words()
        return consumer

    def forget(self, consumer: EventConsumer) -> None:
        if self._consumers.pop(consumer.id, None) is not None:
            group = consumer.subscription.group
            self._by_group[group].remove(consumer)
            if not self._by_group[group]:
                del self._by_group[group]
                for key in [key for key in self._answers if key[0] == group]:
                    del self._answers[key]
            for link in consumer.links.values():
                self.hang_up(link)
            if not consumer.subscription.reliable:
                self._untune(consumer)

    # --- what publishers say -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Called after each change of links and of who is listed."""
        for consumer in list(self._consumers.values()):
            consumer.look()

    def look_later(self) -> None:
        """A link had no room: look again soon."""
        if not self._is_due and not self._closed:
            self._is_due = True
            self._reactor.call_later(0.05, self._look_now)

    def _look_now(self) -> None:
        self._is_due = False
        if not self._closed:
            self.look()

    def _on_subscribed(self, peer: Peer, message: Subscribed) -> None:
        consumer = self._consumers.get(message.id)
        info = message.info or {}
        wait = info.get("ack_wait")
        if isinstance(wait, (int, float)) and 0 < wait / 3 < self._at_work_interval:
            self._at_work_interval = max(wait / 3, 0.05)
            if self._words_timer is not None:
                self._words_timer.cancel()
                self._words_timer = None
            self._time_words()
        if consumer is not None:
            consumer.confirmed(peer, info)

    def _on_echo(self, peer: Peer, message: Unsubscribe) -> None:
        consumer = self._consumers.get(message.id)
        if consumer is not None:
            consumer.echoed(peer)

    def _on_event(self, peer: Peer, message: Event) -> None:
        consumer = self._consumers.get(message.subscription or 0)
        if consumer is None or consumer.subscription.group != message.group or not consumer.arrived(peer, message):
            self._not_asked_for(peer)

    def _not_asked_for(self, peer: Peer) -> None:
        self.refused += 1
        now = monotonic()
        if now - self._refused_told_at >= REFUSAL_LOG_INTERVAL:
            self._refused_told_at = now
            _log.warning(
                "refused %d events so far that were not subscribed to, or for which no credit was given; the last came from %s",
                self.refused, peer.endpoint,
            )  # fmt: skip

    def _on_gap(self, peer: Peer, message: Gap) -> None:
        _log.error(
            "events %d to %d of journal %s are lost for %s: %s",
            message.from_seq, message.to_seq, message.journal[:100], message.group[:1000], message.reason[:1000],
        )  # fmt: skip

    # --- answers -----------------------------------------------------------------------------------------------------

    def answer(self, link: PublisherLink, answer: Ack | Nack) -> None:
        """Send it; an ACK is kept for a while in case the link is lost with it, or its publisher is away."""
        if type(answer) is Nack:
            if link.peer.is_up:
                link.peer.send(envelope.encode(answer))
            return
        # What is done in one turn of the hub is told in one message: a message costs more than the answers in it.
        if not self._done:
            self._reactor.post(self.tell_done)
        self._done.setdefault((link, answer.group, answer.journal, answer.subscription), []).append(answer.seq)

    def tell_done(self) -> None:
        """Send the ACKs that wait for company; before anything that must come after them."""
        if not self._done:
            return
        done, self._done = self._done, {}
        now = monotonic()
        for (link, group, journal, subscription), seqs in done.items():
            if group in self._by_group:
                self._keep(link, group, journal, seqs, now)
            if link.peer.is_up:  # Else it is repeated on the next link.
                link.peer.send(envelope.encode(Ack(group, journal, seqs[0], seqs[1:] or None, subscription)))

    def _keep(self, link: PublisherLink, group: str, journal: str, seqs: list[int], now: float) -> None:
        key = (group, journal)
        kept = self._answers.get(key)
        if kept is None:
            kept = self._answers[key] = Answers()
            if len(self._answers) > JOURNALS_KEPT:
                self._answers.popitem(last=False)
        else:
            self._answers.move_to_end(key)
        kept.keep(link, seqs, now)

    def repeat_answers(self, peer: Peer, subscription: Subscription, of: Peer | None = None) -> None:
        """Before it is asked for events: which process of the source serves a journal now is not known here, so each is told.

        `of`: only those to events that this one sent.
        """
        self.tell_done()
        for (group, journal), kept in self._answers.items():
            sender = None if kept.link is None else kept.link.peer
            if group == subscription.group and kept.seqs and of in (None, sender):
                seq, *also = kept.seqs
                peer.send(envelope.encode(Ack(group, journal, seq, also or None)))

    def _time_words(self) -> None:
        if self._words_timer is None and self._consumers and not self._closed:
            self._words_timer = self._reactor.call_later(self._at_work_interval, self._say_at_work)

    def _say_at_work(self) -> None:
        self._words_timer = None
        if not self._closed:
            for consumer in self._consumers.values():
                if consumer.in_hand:
                    consumer.say_at_work()
            self._let_go_of_answers()
            self._time_words()

    def _let_go_of_answers(self) -> None:
        now = monotonic()
        links = [link for consumer in self._consumers.values() for link in consumer.links.values()]
        hosts = {link.host for link in links if link.stage is SubscriptionStage.ON and link.peer.is_up}
        for key, kept in list(self._answers.items()):
            kept.let_go(now, hosts)
            if not kept.seqs:
                del self._answers[key]

    # --- best effort -------------------------------------------------------------------------------------------------

    def _topic(self, consumer: EventConsumer) -> bytes:
        want = consumer.subscription
        if want.kind == BROADCAST:
            return broadcast_topic(want.source, want.pattern)
        return member_topic(want.group, consumer.member)

    def _tune(self, consumer: EventConsumer) -> None:
        if self._broadcasts is None:
            self._broadcasts = BroadcastSubscriber(self._reactor, self._sockets, self)
        topic = self._topic(consumer)
        listeners = self._by_topic.setdefault(topic, [])
        if not listeners:
            self._broadcasts.subscribe(topic)
        listeners.append(consumer)

    def _untune(self, consumer: EventConsumer) -> None:
        topic = self._topic(consumer)
        listeners = self._by_topic[topic]
        listeners.remove(consumer)
        if not listeners and self._broadcasts is not None:
            del self._by_topic[topic]
            self._broadcasts.unsubscribe(topic)
            for counts in self._counts.values():
                counts.pop(topic, None)

    def listen(self, link: PublisherLink, endpoint: str) -> None:
        """Hear the broadcasts of the publisher at the other end of `link`."""
        if self._broadcasts is None or link.endpoint == endpoint:
            return
        self.hang_up(link)
        link.endpoint = endpoint
        self._counts.setdefault(link.peer.node, {})
        count = self._endpoints.get(endpoint, 0)
        self._endpoints[endpoint] = count + 1
        if not count:
            try:
                self._broadcasts.connect(endpoint)
            except UnusableEndpoint as exc:
                _log.warning("best-effort events of node %s are not heard: %s", link.peer.node, exc)

    def hang_up(self, link: PublisherLink) -> None:
        endpoint, link.endpoint = link.endpoint, None
        if endpoint is None or self._broadcasts is None:
            return
        self._endpoints[endpoint] -= 1
        if not self._endpoints[endpoint]:
            del self._endpoints[endpoint]
            self._broadcasts.disconnect(endpoint)
        others = (other for consumer in self._consumers.values() for other in consumer.links.values() if other is not link)
        if not any(other.endpoint is not None and other.peer.node == link.peer.node for other in others):
            self._counts.pop(link.peer.node, None)

    def on_broadcast(self, frame: bytes, payload: bytes | None) -> None:
        try:
            self._received(frame, payload)
        except ProtocolError as exc:
            self._faults.saw("a publisher", exc)
        except Exception as exc:  # A broadcast that we do not stand is passed over.
            self._faults.saw("a publisher", f"{type(exc).__name__}, in a broadcast", exc)

    def _received(self, frame: bytes, payload: bytes | None) -> None:
        pieces = frame.split(b"\0", 3)
        if len(pieces) < 4:
            raise ProtocolError(f"a broadcast of {len(frame):,} bytes without a topic")
        kind, first, second, body = pieces
        topic = b"\0".join((kind, first, second, b""))
        message = envelope.decode(body, payload)
        if type(message) is not Event:
            return
        self._count(message, topic)
        consumers = self._by_topic.get(topic, ())
        for consumer in consumers:
            if consumer.fits(message):
                consumer.take(IncomingEvent(consumer, None, message))
                self._to_flush.add(consumer)
                if len(consumers) > 1:
                    # A copy for each: what one handler does to its own shall not be seen by the next.
                    message = cast(Event, envelope.decode(body, payload))

    def on_batch_end(self) -> None:
        # Reading is faster than handling: what has no room behind us stays in front, where there is room for 10,000.
        to_flush, self._to_flush = self._to_flush, set()
        if self._broadcasts is not None and any(consumer.is_busy for consumer in to_flush):
            self._broadcasts.pause()
            self._reactor.call_later(PAUSE, self._read_on, to_flush)
        if self.missed > self._missed_told and monotonic() - self._missed_told_at >= LOSS_LOG_INTERVAL:
            _log.warning("missed %d best-effort events: they came faster than they were handled", self.missed)
            self._missed_told, self._missed_told_at = self.missed, monotonic()

    def _read_on(self, to_flush: set[EventConsumer]) -> None:
        if self._closed or self._broadcasts is None:
            return
        if any(consumer.is_busy for consumer in to_flush):
            self._reactor.call_later(PAUSE, self._read_on, to_flush)
        else:
            self._broadcasts.resume()

    def _count(self, message: Event, topic: bytes) -> None:
        counts = self._counts.get(message.journal)
        if counts is None:
            return  # Its last words: nobody listens to it any more.
        last = counts.get(topic)
        if last is not None and message.seq > last + 1:
            self.missed += message.seq - last - 1
        counts[topic] = message.seq

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._consumers.clear()
        self._by_group.clear()
        self._answers.clear()
        self._counts.clear()
        if self._words_timer is not None:
            self._words_timer.cancel()
            self._words_timer = None
        if self._broadcasts is not None:
            self._broadcasts.close()
