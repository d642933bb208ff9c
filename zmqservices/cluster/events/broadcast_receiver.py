"""Receives the best-effort events of one node: listens to the broadcasts of publishers, and counts missed events.

A broadcast is a topic, followed by an EVENT. Its `origin` is the id of the publisher's node, and its `seq` counts the
broadcasts of that node on that topic, so a jump shows how many were lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from zmqservices.cluster.events.incoming_event import EventOwner, IncomingEvent
from zmqservices.cluster.events.publisher_link import PublisherLink
from zmqservices.cluster.events.subscription import BROADCAST, Subscription, broadcast_topic, member_topic
from zmqservices.exceptions import MessageTooLarge, ProtocolError
from zmqservices.transport import BroadcastSubscriber, Sockets, UnusableEndpoint
from zmqservices.transport.faults import Faults
from zmqservices.transport.reactor import Reactor
from zmqservices.wire import envelope
from zmqservices.wire.headers import HeaderLimits
from zmqservices.wire.messages import Event

_log = logging.getLogger(__name__)

#: Seconds for which no broadcasts are read while a consumer is busy.
PAUSE = 0.002

#: Seconds between two lines in the log about best-effort events that were lost.
LOSS_LOG_INTERVAL = 10.0


class BroadcastConsumer(EventOwner, Protocol):
    """A consumer of best-effort events; an EventConsumer."""

    subscription: Subscription
    member: str
    take: Callable[[IncomingEvent], object]

    @property
    def is_busy(self) -> bool:
        """Whether so many events wait for a worker that no more should be read."""

    def fits(self, message: Event) -> bool:
        """Whether the consumer subscribed to this event."""


class BroadcastReceiver:
    """All best-effort subscriptions of one node. `links()` returns the links of all its consumers."""

    def __init__(
        self,
        reactor: Reactor,
        sockets: Sockets,
        links: Callable[[], Iterable[PublisherLink]],
        clock: Callable[[], float],
        header_limits: HeaderLimits,
    ) -> None:
        #: The events that were sent and did not arrive, and those that were dropped here because there was no room.
        self.missed = 0
        self._reactor = reactor
        self._sockets = sockets
        self._links = links
        self._clock = clock
        self._headers = header_limits
        self._faults = Faults(_log)
        #: The socket. It is made for the first consumer.
        self._socket: BroadcastSubscriber | None = None
        self._by_topic: dict[bytes, list[BroadcastConsumer]] = {}
        #: The number of links for each address of a listened broadcast.
        self._endpoints: dict[str, int] = {}
        #: The number of the last event, by the publisher's node and the topic.
        self._last_seqs: dict[str, dict[bytes, int]] = {}
        #: The consumers that took events in this batch.
        self._took: set[BroadcastConsumer] = set()
        self._missed_logged = 0
        self._missed_logged_at = -LOSS_LOG_INTERVAL
        self._closed = False

    # --- which broadcasts --------------------------------------------------------------------------------------------

    @staticmethod
    def _topic(consumer: BroadcastConsumer) -> bytes:
        want = consumer.subscription
        if want.kind == BROADCAST:
            return broadcast_topic(want.source, want.pattern)
        return member_topic(want.group, consumer.member)

    def add(self, consumer: BroadcastConsumer) -> None:
        """Give the consumer the broadcasts of its topic."""
        if self._socket is None:
            self._socket = BroadcastSubscriber(self._reactor, self._sockets, self)
        topic = self._topic(consumer)
        consumers = self._by_topic.setdefault(topic, [])
        if not consumers:
            self._socket.subscribe(topic)
        consumers.append(consumer)

    def remove(self, consumer: BroadcastConsumer) -> None:
        """Stop giving the consumer events, because it has ended."""
        topic = self._topic(consumer)
        consumers = self._by_topic[topic]
        consumers.remove(consumer)
        if not consumers and self._socket is not None:
            del self._by_topic[topic]
            self._socket.unsubscribe(topic)
            for seqs in self._last_seqs.values():
                seqs.pop(topic, None)

    def listen(self, link: PublisherLink, endpoint: str) -> None:
        """Listen to the broadcasts of the publisher at the other end of `link`."""
        if self._socket is None or link.endpoint == endpoint:
            return
        self.stop_listening(link)
        link.endpoint = endpoint
        self._last_seqs.setdefault(link.peer.node, {})
        count = self._endpoints.get(endpoint, 0)
        self._endpoints[endpoint] = count + 1
        if not count:
            try:
                self._socket.connect(endpoint)
            except UnusableEndpoint as exc:
                _log.warning("best-effort events of node %s are not received: %s", link.peer.node, exc)

    def stop_listening(self, link: PublisherLink) -> None:
        """The link is lost, or its consumer has ended: listen to its publisher no more."""
        endpoint, link.endpoint = link.endpoint, None
        if endpoint is None or self._socket is None:
            return
        self._endpoints[endpoint] -= 1
        if not self._endpoints[endpoint]:
            del self._endpoints[endpoint]
            self._socket.disconnect(endpoint)
        node = link.peer.node
        if not any(other.endpoint is not None and other.peer.node == node for other in self._links() if other is not link):
            self._last_seqs.pop(node, None)

    # --- messages: see BroadcastSubscriberListener -----------------------------------------------------------------

    def on_broadcast(self, frame: bytes, payload: bytes | None) -> None:
        """Decode a broadcast and give it to the consumers of its topic."""
        try:
            self._received(frame, payload)
        except (ProtocolError, MessageTooLarge) as exc:
            self._faults.saw("a publisher", exc)
        except Exception as exc:  # A broadcast that causes an error is ignored.
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
        if len(frame) > self._headers.unchecked:
            self._headers.check(message.headers, "the event", f"{message.type!r} of {message.source!r}")
        self._count(message, topic)
        consumers = self._by_topic.get(topic, ())
        for consumer in consumers:
            if consumer.fits(message):
                consumer.take(IncomingEvent(consumer, None, message))
                self._took.add(consumer)
                if len(consumers) > 1:
                    # Decoded again for each consumer, so that a handler does not see changes made by another one.
                    message = cast(Event, envelope.decode(body, payload))

    def _count(self, message: Event, topic: bytes) -> None:
        seqs = self._last_seqs.get(message.origin)
        if seqs is None:
            return  # A late broadcast of a publisher to which nobody listens any more.
        last = seqs.get(topic)
        if last is not None and message.seq > last + 1:
            self.missed += message.seq - last - 1
        seqs[topic] = message.seq

    def on_batch_end(self) -> None:
        """Backpressure: while a consumer is busy, broadcasts stay in ZeroMQ's queue, which has room for 10,000."""
        took, self._took = self._took, set()
        if self._socket is not None and any(consumer.is_busy for consumer in took):
            self._socket.pause()
            self._reactor.call_later(PAUSE, self._resume, took)
        if self.missed > self._missed_logged and self._clock() - self._missed_logged_at >= LOSS_LOG_INTERVAL:
            _log.warning("missed %d best-effort events: they came faster than they were handled", self.missed)
            self._missed_logged, self._missed_logged_at = self.missed, self._clock()

    def _resume(self, took: set[BroadcastConsumer]) -> None:
        if self._closed or self._socket is None:
            return
        if any(consumer.is_busy for consumer in took):
            self._reactor.call_later(PAUSE, self._resume, took)
        else:
            self._socket.resume()

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        self._last_seqs.clear()
        if self._socket is not None:
            self._socket.close()
