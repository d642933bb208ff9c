"""The subscription of one consumer at one publisher: its stage, and the events of that publisher that are in hand.

    (linked) --SUBSCRIBE--> ASKED --SUBSCRIBED--> ON --UNSUBSCRIBE--> LEAVING --its echo--> OFF
        \\______ the link is lost: LOST; the next link begins with SUBSCRIBE

Pure: no sockets, no clock.
"""

from __future__ import annotations

import enum

from zmqservices.cluster.calls.peer import Peer
from zmqservices.wire import codec
from zmqservices.wire.messages import Event

#: Bytes of events in hand from one publisher beyond which no more are taken than the credit of one journal.
ROOM = 64 << 20


class SubscriptionStage(enum.Enum):
    """What became of a SUBSCRIBE. The values are words for a log."""

    ASKED = "has not answered"
    ON = "on"
    LEAVING = "leaving"
    OFF = "off"
    LOST = "not connected"
    REFUSED = "refused"


#: The stages in which events may come.
TAKING = (SubscriptionStage.ASKED, SubscriptionStage.ON, SubscriptionStage.LEAVING)


class PublisherLink:
    """The subscription of one consumer on one link."""

    __slots__ = ("peer", "host", "stage", "in_hand", "bytes", "journals", "endpoint")

    def __init__(self, peer: Peer, host: str) -> None:
        self.peer = peer
        #: The host of the publisher: if it does not return, another publisher of this host adopts its journal.
        self.host = host
        self.stage = SubscriptionStage.ASKED
        #: Events that came on this link and are not answered.
        self.in_hand = 0
        #: The bytes of these events, and their number for each journal.
        self.bytes = 0
        self.journals: dict[str, int] = {}
        #: The address of the publisher's broadcasts; None where they are not listened to.
        self.endpoint: str | None = None

    def add(self, message: Event) -> None:
        """One more event is in hand."""
        self.in_hand += 1
        self.bytes += size_of(message)
        self.journals[message.journal] = self.journals.get(message.journal, 0) + 1

    def remove(self, message: Event) -> None:
        """An event was answered, or came again on another link."""
        self.in_hand -= 1
        self.bytes -= size_of(message)
        left = self.journals.get(message.journal, 0) - 1
        if left > 0:
            self.journals[message.journal] = left
        else:
            self.journals.pop(message.journal, None)

    def clear(self) -> None:
        """The link is lost: its unanswered events may come again on another."""
        self.in_hand = self.bytes = 0
        self.journals.clear()

    def may_take(self, message: Event, credit: int) -> bool:
        """Whether the publisher keeps to its credit of `credit` events of each journal, and there is room for the event.

        The events of one journal within its credit are always taken. Those of several journals together must fit `ROOM`.
        """
        if self.in_hand < credit:
            return True
        return self.bytes <= ROOM and self.journals.get(message.journal, 0) < credit


def size_of(message: Event) -> int:
    """Bytes of an event's data. Publishers of this package send bytes; other values that a peer may send are measured."""
    body = message.body
    return len(body) if type(body) is bytes else len(codec.pack(body))
