"""The answers of one node to events. They are sent together, and kept for a while in case a publisher has not read them.

An ACK may be lost with its link, or its publisher may be away. Therefore ACKs are sent again on the next link, before
SUBSCRIBE, so that no publisher delivers a handled event again.

Rule 1: no sockets and no clock here; `now` is an argument, or comes from `clock`, in monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from zmqservices.cluster.calls.peer import Peer
from zmqservices.cluster.events.publisher_link import PublisherLink
from zmqservices.transport.reactor import Reactor
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Nack

#: The most ACKs that are kept for each journal.
ANSWERS_KEPT = 1024

#: Seconds for which an ACK is kept while the link is connected. A lost link is noticed sooner, by its heartbeats, and a publisher
#: that has read an ACK writes it to disk within 50 ms.
DOUBT = 30.0

#: The most journals for which ACKs are kept.
JOURNALS_KEPT = 256


class JournalAnswers:
    """The last events of one journal that one group has handled, in the order of their answers."""

    __slots__ = ("link", "seqs", "times")

    def __init__(self) -> None:
        #: The link on which the last answered event came.
        self.link: PublisherLink | None = None
        self.seqs: deque[int] = deque(maxlen=ANSWERS_KEPT)
        self.times: deque[float] = deque(maxlen=ANSWERS_KEPT)

    def add(self, link: PublisherLink, seqs: list[int], now: float) -> None:
        """These events, which came on `link`, are handled."""
        self.link = link
        self.seqs.extend(seqs)
        self.times.extend([now] * len(seqs))

    def expire(self, now: float, hosts: set[str]) -> None:
        """Drop old answers if the publisher's host is in `hosts`, where a linked publisher must have read them."""
        if self.link is not None and self.link.host in hosts:
            while self.times and now - self.times[0] > DOUBT:
                self.times.popleft()
                self.seqs.popleft()


class Answers:
    """The answers of one node. Everything here runs inside the reactor."""

    def __init__(self, reactor: Reactor, clock: Callable[[], float]) -> None:
        self._reactor = reactor
        self._clock = clock
        #: The kept answers by group and journal. The last answered journal comes last.
        self._kept: OrderedDict[tuple[str, str], JournalAnswers] = OrderedDict()
        #: ACKs of this turn of the hub.
        self._unsent: dict[tuple[PublisherLink, str, str, int | None], list[int]] = {}

    def send(self, link: PublisherLink, answer: Ack | Nack) -> None:
        """Send a NACK now. Send an ACK at the end of this turn of the hub, or with `flush`."""
        if type(answer) is Nack:
            if link.peer.is_up:
                link.peer.send(envelope.encode(answer))
            return
        # All ACKs of one turn are sent in one message, because a message costs more than the answers in it.
        if not self._unsent:
            self._reactor.post(self.flush)
        self._unsent.setdefault((link, answer.group, answer.origin, answer.subscription), []).append(answer.seq)

    def flush(self) -> None:
        """Send the ACKs of this turn. To be called before any message that must come after them."""
        if not self._unsent:
            return
        unsent, self._unsent = self._unsent, {}
        now = self._clock()
        for (link, group, origin, subscription), seqs in unsent.items():
            self._keep(link, group, origin, seqs, now)
            if link.peer.is_up:  # Otherwise they are repeated on the next link.
                link.peer.send(envelope.encode(Ack(group, origin, seqs[0], seqs[1:] or None, subscription)))

    def _keep(self, link: PublisherLink, group: str, origin: str, seqs: list[int], now: float) -> None:
        key = (group, origin)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = JournalAnswers()
            if len(self._kept) > JOURNALS_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        kept.add(link, seqs, now)

    def repeat(self, peer: Peer, group: str, sender: Peer | None = None) -> None:
        """Send all kept ACKs of the group to `peer`. With `sender`, only the ACKs of events that `sender` sent.

        Called before a SUBSCRIBE. It is not known here which process of the source now serves a journal, so each gets the ACKs.
        """
        self.flush()
        for (kept_group, origin), kept in self._kept.items():
            came_from = None if kept.link is None else kept.link.peer
            if kept_group == group and kept.seqs and sender in (None, came_from):
                seq, *also = kept.seqs
                peer.send(envelope.encode(Ack(group, origin, seq, also or None)))

    def expire(self, hosts: set[str]) -> None:
        """Drop the old ACKs of publishers on `hosts`, where a linked publisher has confirmed a subscription."""
        now = self._clock()
        for key, kept in list(self._kept.items()):
            kept.expire(now, hosts)
            if not kept.seqs:
                del self._kept[key]

    def drop_group(self, group: str) -> None:
        """The last consumer of the group has ended: drop its answers."""
        for key in [key for key in self._kept if key[0] == group]:
            del self._kept[key]

    def clear(self) -> None:
        """The node is closed: drop all answers."""
        self._kept.clear()
