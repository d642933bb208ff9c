"""The subscription of one consumer at one publisher: its stage, and the unanswered events of that publisher.

    (linked) --SUBSCRIBE--> ASKED --SUBSCRIBED--> ON --UNSUBSCRIBE--> LEAVING --its echo--> OFF
        \\______ the link is lost: LOST; the next link begins with SUBSCRIBE

Pure: no sockets, no clock.
"""

from __future__ import annotations

import enum

from zmqservices.cluster.calls.peer import Peer
from zmqservices.wire import codec
from zmqservices.wire.messages import Event

#: If unanswered events of one publisher have more bytes than this, only those within the credit of one journal are taken.
ROOM = 64 << 20


class SubscriptionStage(enum.Enum):
    """The stages of a subscription. The values are words for a log."""

    ASKED = "has not answered"
    ON = "on"
    LEAVING = "leaving"
    OFF = "off"
    LOST = "not connected"
    REFUSED = "refused"


#: The stages in which events may arrive.
TAKING = (SubscriptionStage.ASKED, SubscriptionStage.ON, SubscriptionStage.LEAVING)


class PublisherLink:
    """The subscription of one consumer on one link."""

    __slots__ = ("peer", "host", "stage", "in_hand", "bytes", "journals", "endpoint")

    def __init__(self, peer: Peer, host: str) -> None:
        self.peer = peer
        #: The host of the publisher. If the publisher does not return, another one on this host adopts its journal.
        self.host = host
        self.stage = SubscriptionStage.ASKED
        #: The number of unanswered events of this link.
        self.in_hand = 0
        #: The bytes of unanswered events, and their number for each journal, by its origin.
        self.bytes = 0
        self.journals: dict[str, int] = {}
        #: The address of the publisher's broadcasts; None if the consumer does not listen to them.
        self.endpoint: str | None = None

    def add(self, message: Event) -> None:
        """Count another unanswered event."""
        self.in_hand += 1
        self.bytes += size_of(message)
        self.journals[message.origin] = self.journals.get(message.origin, 0) + 1

    def remove(self, message: Event) -> None:
        """An event was answered, or came again on another link."""
        self.in_hand -= 1
        self.bytes -= size_of(message)
        left = self.journals.get(message.origin, 0) - 1
        if left > 0:
            self.journals[message.origin] = left
        else:
            self.journals.pop(message.origin, None)

    def clear(self) -> None:
        """The link is lost. Its unanswered events may come again on another link."""
        self.in_hand = self.bytes = 0
        self.journals.clear()

    def may_take(self, message: Event, credit: int) -> bool:
        """Whether the publisher has credit for the event (`credit` events of each journal), and there is room for it.

        Events of one journal are always taken within its credit. Events of several journals together must fit into `ROOM`.
        """
        if self.in_hand < credit:
            return True
        return self.bytes <= ROOM and self.journals.get(message.origin, 0) < credit


def size_of(message: Event) -> int:
    """The bytes of an event's data. Publishers of this package send bytes; other values, which a peer may send, are measured."""
    body = message.body
    return len(body) if type(body) is bytes else len(codec.pack(body))
