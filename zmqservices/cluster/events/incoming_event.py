"""One event at its consumer, which must answer it once."""

from __future__ import annotations

from typing import Any, Protocol

from zmqservices.cluster.events.publisher_link import PublisherLink, SubscriptionStage
from zmqservices.wire.messages import Ack, Event, Nack


class EventOwner(Protocol):
    """The consumer that took an event; an EventConsumer."""

    @property
    def id(self) -> int: ...

    def answered(self, event: IncomingEvent, answer: Ack | Nack) -> None:
        """The handler of `event` has ended: send `answer` to the publisher."""


class IncomingEvent:
    """An event that must be answered once, by `done` or `failed`. For a best-effort event, both do nothing."""

    __slots__ = ("consumer", "link", "message", "is_open")

    def __init__(self, consumer: EventOwner, link: PublisherLink | None, message: Event) -> None:
        self.consumer = consumer
        #: The link on which the event came; None for a best-effort event.
        self.link = link
        self.message = message
        self.is_open = link is not None

    @property
    def is_reliable(self) -> bool:
        """Whether the event is delivered again if it is not `done`."""
        return self.link is not None

    @property
    def peer(self) -> str | None:
        """The name in the publisher's certificate; None without SECURITY, and for an event that came as a broadcast."""
        certificate = None if self.link is None else self.link.peer.certificate
        return None if certificate is None else certificate.name

    def move_to(self, link: PublisherLink) -> None:
        """The event came again, on `link`. From now on it counts as unanswered there."""
        if self.link is link:
            return
        if self.link is not None and self.link.stage is not SubscriptionStage.LOST:
            self.link.remove(self.message)
        link.add(self.message)
        self.link = link

    def done(self) -> None:
        """The event is handled, and will not be delivered again."""
        if self.is_open:
            message = self.message
            self._answer(Ack(message.group or "", message.origin, message.seq, None, self.consumer.id))

    def failed(self, error: dict[str, Any] | None, delay: float = 0.0) -> None:
        """Deliver the event again after `delay` seconds. If `error` is None, it was not tried, and no attempt is counted."""
        if self.is_open:
            message = self.message
            self._answer(Nack(message.group or "", message.origin, message.seq, delay, error, self.consumer.id))

    def _answer(self, answer: Ack | Nack) -> None:
        self.is_open = False
        self.consumer.answered(self, answer)
