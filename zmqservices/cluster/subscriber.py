"""The member's half of events: subscribes at every publisher of a source, takes what they send, answers it.

Runs on a gevent hub, inside the node's reactor. A handler is a `Subscription` and a function `take(event)` that must not
block and sees to it that `event.done()` or `event.failed()` is called once.

How a tie of one intake to one publisher goes:

    (linked) --SUBSCRIBE--> ASKED --SUBSCRIBED--> ON --UNSUBSCRIBE--> LEAVING --its echo--> OFF
        \\______ the link is lost: what was answered lately is answered again on the next one, to whatever process that is
"""

from __future__ import annotations

import enum
import itertools
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent.event import Event as Flag

from zmqservices.cluster.caller import Caller
from zmqservices.cluster.peer import Peer
from zmqservices.cluster.subscription import BROADCAST, Subscription, broadcast_topic, member_topic, publishing
from zmqservices.exceptions import ProtocolError
from zmqservices.transport import Antenna, Sockets
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Event, Gap, Grant, Nack, Subscribe, Subscribed, Unsubscribe

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

#: Seconds that publishers get to echo an UNSUBSCRIBE; one that is frozen must not hold up a stop.
FAREWELL_TIMEOUT = 2.0

#: Best-effort events that wait for a worker beyond which no more are read for a while, and how many seconds that is.
LONG_QUEUE, PAUSE = 256, 0.002

#: Seconds between two lines in the log about best-effort events that were lost.
LOSS_LOG_INTERVAL = 10.0


class Stage(enum.Enum):
    ASKED = "has not answered"
    ON = "on"
    LEAVING = "leaving"
    OFF = "off"
    LOST = "not connected"


class Tie:
    """One intake's subscription on one link."""

    __slots__ = ("peer", "host", "stage", "in_hand", "endpoint")

    def __init__(self, peer: Peer, host: str) -> None:
        self.peer = peer
        #: Where its publisher is: another one there takes over its journal, should it not return.
        self.host = host
        self.stage = Stage.ASKED
        #: Events that came on this link and are not answered.
        self.in_hand = 0
        #: Where its publisher broadcasts; None where that is not needed.
        self.endpoint: str | None = None


class Answers:
    """What of one journal was handled for one group, and may be unknown to who serves that journal now."""

    __slots__ = ("peer", "seqs", "times")

    def __init__(self, peer: Peer) -> None:
        #: Who served it when an event of it was last answered.
        self.peer = peer
        self.seqs: deque[int] = deque(maxlen=ANSWERS_KEPT)
        self.times: deque[float] = deque(maxlen=ANSWERS_KEPT)

    def keep(self, peer: Peer, seqs: list[int], now: float) -> None:
        self.peer = peer
        self.seqs.extend(seqs)
        self.times.extend([now] * len(seqs))

    def let_go(self, now: float) -> None:
        """Those that have been heard by now."""
        if self.peer.is_up:
            while self.times and now - self.times[0] > DOUBT:
                self.times.popleft()
                self.seqs.popleft()


class IncomingEvent:
    """One event to be answered once, by `done` or `failed`; without a promise, both do nothing."""

    __slots__ = ("intake", "tie", "message", "is_open")

    def __init__(self, intake: Intake, tie: Tie | None, message: Event) -> None:
        self.intake = intake
        self.tie = tie
        self.message = message
        self.is_open = tie is not None

    @property
    def is_reliable(self) -> bool:
        """Whether it comes again when it is not `done`."""
        return self.tie is not None

    def take_over(self, tie: Tie | None) -> None:
        """It came again on this link: there it is in hand now. On the same link it is counted already."""
        if self.tie is tie:
            return
        if self.tie is not None and self.tie.stage is not Stage.LOST:
            self.tie.in_hand -= 1
        if tie is not None:
            tie.in_hand += 1
        self.tie = tie

    def done(self) -> None:
        """The handler is through with it: it is not to come again."""
        if self.is_open:
            message = self.message
            self._answer(Ack(message.group or "", message.journal, message.seq))

    def failed(self, error: dict[str, Any] | None, delay: float = 0.0) -> None:
        """It is to come again, to somebody; without an `error` it was not tried."""
        if self.is_open:
            message = self.message
            self._answer(Nack(message.group or "", message.journal, message.seq, delay, error))

    def _answer(self, answer: Ack | Nack) -> None:
        self.is_open = False
        self.intake.answered(self, answer)


class Intake:
    """One handler, at all publishers of its source. Made by `Subscriber.subscribe`."""

    def __init__(
        self,
        subscriber: Subscriber,
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
        self.ties: dict[Peer, Tie] = {}
        #: Events taken and not answered, over all publishers.
        self.in_hand: dict[tuple[str, int], IncomingEvent] = {}
        self.pool = subscriber.caller.expect(publishing(subscription.source))
        self._subscriber = subscriber
        self._credit = credit
        self._options = options
        self._changed = Flag()

    @property
    def is_busy(self) -> bool:
        """So many wait for a worker that no more are read."""
        return self.waiting is not None and not self.is_over and self.waiting() >= LONG_QUEUE

    # --- subscribing -------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Something changed about publishers: subscribe where that is not done, forget ties whose link is gone."""
        for peer, tie in list(self.ties.items()):
            if not peer.is_up and tie.stage is not Stage.LOST:
                tie.stage = Stage.LOST
                tie.in_hand = 0
                for heir in self._heirs(tie):
                    self._subscriber.repeat_answers(heir, self.subscription, peer)
        for instance in list(self.pool.instances.values()):
            held = self.ties.get(instance.peer)
            may_ask = instance.peer.is_up and not instance.left and not self.is_leaving
            if may_ask and (held is None or held.stage is Stage.LOST):
                self._subscribe(instance.peer, instance.record.host)
        for peer in [peer for peer, tie in self.ties.items() if tie.stage is Stage.LOST]:
            if not any(instance.peer is peer for instance in self.pool.instances.values()):
                self._subscriber.hang_up(self.ties.pop(peer))
        self._changed.set()

    def _heirs(self, tie: Tie) -> list[Peer]:
        """The other publishers of its host that are there. They have been asked for events already, and so been told all."""
        if not self.subscription.reliable:
            return []
        others = [other for other in self.ties.values() if other.host == tie.host and other is not tie]
        return [other.peer for other in others if other.stage is not Stage.LOST and other.peer.is_up]

    def _subscribe(self, peer: Peer, host: str) -> None:
        # First what it may not have heard: it must not send again what is done.
        self._subscriber.repeat_answers(peer, self.subscription)
        former = self.ties.get(peer)
        tie = self.ties[peer] = Tie(peer, host)
        if former is not None:
            tie.endpoint = former.endpoint
        self._ask(tie)

    def _ask(self, tie: Tie) -> None:
        want = self.subscription
        # What is still in hand from a former link takes its part of the credit until it is answered.
        left = sum(1 for event in self.in_hand.values() if event.tie is not None and event.tie.peer is tie.peer)
        credit = max(self._credit - left, 0) if want.reliable else 0
        message = Subscribe(
            self.id, want.source, want.pattern, want.kind, self.member, want.group, want.reliable, credit, self._options
        )
        if not tie.peer.send(envelope.encode(message)):
            tie.stage = Stage.LOST
            self._subscriber.look_later()

    def confirmed(self, peer: Peer, info: dict[Any, Any]) -> None:
        tie = self.ties.get(peer)
        if tie is None or tie.stage not in (Stage.ASKED, Stage.ON):
            return
        endpoint = info.get("events")
        if isinstance(endpoint, str):
            # It broadcasts there, and answers again once it has heard of us on that way.
            self._subscriber.listen(tie, endpoint)
            return
        tie.stage = Stage.ON
        self._changed.set()

    def unreachable(self) -> list[str]:
        """The publishers that are listed as UP and have not said SUBSCRIBED, in words."""
        found = []
        for instance in self.pool.instances.values():
            tie = self.ties.get(instance.peer)
            if instance.listed and instance.record.state == "UP" and (tie is None or tie.stage is not Stage.ON):
                why = instance.peer.condition(instance) if tie is None else tie.stage.value
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

    def arrived(self, peer: Peer, message: Event) -> None:
        tie = self.ties.get(peer)
        key = (message.journal, message.seq)
        former = self.in_hand.get(key)
        if former is not None:
            # The link was lost while it is being handled: once more is not needed, its answer will come on this link.
            former.take_over(tie)
            if tie is not None:
                # It takes the place that it has taken before: the credit that was spent on it is given again.
                tie.peer.send(envelope.encode(Grant(self.subscription.group, 1)))
            return
        event = IncomingEvent(self, tie, message)
        if tie is None or self.is_over:
            return  # Its publisher hears that we are gone, and sends it to somebody else.
        tie.in_hand += 1
        self.in_hand[key] = event
        self.take(event)

    def answered(self, event: IncomingEvent, answer: Ack | Nack) -> None:
        message, tie = event.message, event.tie
        self.in_hand.pop((message.journal, message.seq), None)
        if tie is None or self.is_over:
            return
        if tie.stage is not Stage.LOST:
            tie.in_hand -= 1
        self._subscriber.answer(tie.peer, answer)
        if type(answer) is Ack and not tie.peer.is_up:
            for heir in self._heirs(tie):
                heir.send(envelope.encode(answer))

    def say_at_work(self) -> None:
        """Publishers whose events are in hand hear that the hub turns."""
        word = envelope.encode(Grant(self.subscription.group, 0))
        for tie in self.ties.values():
            if tie.in_hand and tie.stage is not Stage.LOST and tie.peer.is_up:
                tie.peer.send(word)

    # --- leaving -----------------------------------------------------------------------------------------------------

    def leave(self, timeout: float = FAREWELL_TIMEOUT) -> None:
        """No more events: returns when every publisher has confirmed that, or after `timeout`.

        To be called again once what was taken is answered: publishers that confirm then have read the answers.
        """
        if self.is_over:
            return
        self.is_leaving = True
        self._subscriber.tell_done()
        for tie in self.ties.values():
            if tie.stage in (Stage.ASKED, Stage.ON, Stage.OFF) and tie.peer.is_up:
                tie.stage = Stage.LEAVING
                tie.peer.send(envelope.encode(Unsubscribe(self.id)))
        end = monotonic() + timeout
        while any(tie.stage is Stage.LEAVING for tie in self.ties.values()):
            left = end - monotonic()
            if left <= 0:
                break
            self._changed.clear()
            self._changed.wait(left)

    def echoed(self, peer: Peer) -> None:
        tie = self.ties.get(peer)
        if tie is not None and tie.stage is Stage.LEAVING:
            tie.stage = Stage.OFF
            self._changed.set()

    def end(self) -> None:
        """Gone for good: what is not answered by now goes to others at once."""
        self.is_leaving = self.is_over = True
        self._subscriber.tell_done()
        for tie in self.ties.values():
            # Said twice: nothing will be answered any more.
            times = 2 if tie.stage in (Stage.ASKED, Stage.ON) else 1 if tie.stage is Stage.LEAVING else 0
            for _ in range(times if tie.peer.is_up else 0):
                tie.peer.send(envelope.encode(Unsubscribe(self.id)))
        self.in_hand.clear()
        self._subscriber.forget(self)


class Subscriber:
    """All intakes of one node."""

    def __init__(self, caller: Caller, sockets: Sockets, member: str) -> None:
        self.caller = caller
        self.member = member
        #: Best-effort events that were sent and have not come, and those that were thrown away here, for want of room.
        self.missed = 0
        self._sockets = sockets
        self._reactor = caller.reactor
        self._ids = itertools.count(1)
        self._intakes: dict[int, Intake] = {}
        self._by_group: dict[str, list[Intake]] = {}
        self._by_topic: dict[bytes, list[Intake]] = {}
        #: By group and journal, those that were answered last at the end.
        self._answers: OrderedDict[tuple[str, str], Answers] = OrderedDict()
        self._done: dict[tuple[Peer, str, str], list[int]] = {}
        self._antenna: Antenna | None = None
        self._touched: set[Intake] = set()
        self._endpoints: dict[str, int] = {}
        #: The last number of each publisher's node that is listened to, for each topic.
        self._counts: dict[str, dict[bytes, int]] = {}
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
    ) -> Intake:
        """Begin. Publishers that come later are found as well; see `Intake.wait_until_reachable` for those that are there."""
        options = {"start": subscription.start, **(options or {})}
        intake = Intake(self, next(self._ids), subscription, take, credit, options, waiting)
        self._intakes[intake.id] = intake
        self._by_group.setdefault(subscription.group, []).append(intake)
        if not subscription.reliable:
            self._tune(intake)
        intake.look()
        self._time_words()
        return intake

    def forget(self, intake: Intake) -> None:
        if self._intakes.pop(intake.id, None) is not None:
            group = intake.subscription.group
            self._by_group[group].remove(intake)
            if not self._by_group[group]:
                del self._by_group[group]
                for key in [key for key in self._answers if key[0] == group]:
                    del self._answers[key]
            for tie in intake.ties.values():
                self.hang_up(tie)
            if not intake.subscription.reliable:
                self._untune(intake)

    # --- what publishers say -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Called after each change of links and of who is listed."""
        for intake in list(self._intakes.values()):
            intake.look()

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
        intake = self._intakes.get(message.id)
        info = message.info or {}
        wait = info.get("ack_wait")
        if isinstance(wait, (int, float)) and 0 < wait / 3 < self._at_work_interval:
            self._at_work_interval = max(wait / 3, 0.05)
            if self._words_timer is not None:
                self._words_timer.cancel()
                self._words_timer = None
            self._time_words()
        if intake is not None:
            intake.confirmed(peer, info)

    def _on_echo(self, peer: Peer, message: Unsubscribe) -> None:
        intake = self._intakes.get(message.id)
        if intake is not None:
            intake.echoed(peer)

    def _on_event(self, peer: Peer, message: Event) -> None:
        intakes = self._by_group.get(message.group or "")
        if not intakes:
            _log.warning("an event for %r came from %s; nobody here handles that", message.group, peer.endpoint)
            return
        intake = intakes[0] if len(intakes) == 1 else min(intakes, key=lambda one: len(one.in_hand))
        intake.arrived(peer, message)

    def _on_gap(self, peer: Peer, message: Gap) -> None:
        _log.error(
            "events %d to %d of journal %s are lost for %s: %s",
            message.from_seq, message.to_seq, message.journal, message.group, message.reason,
        )  # fmt: skip

    # --- answers -----------------------------------------------------------------------------------------------------

    def answer(self, peer: Peer, answer: Ack | Nack) -> None:
        """Send it; an ACK is kept for a while in case the link is lost with it, or its publisher is away."""
        if type(answer) is Nack:
            if peer.is_up:
                peer.send(envelope.encode(answer))
            return
        # What is done in one turn of the hub is told in one message: a message costs more than the answers in it.
        if not self._done:
            self._reactor.post(self.tell_done)
        self._done.setdefault((peer, answer.group, answer.journal), []).append(answer.seq)

    def tell_done(self) -> None:
        """Send the ACKs that wait for company; before anything that must come after them."""
        if not self._done:
            return
        done, self._done = self._done, {}
        now = monotonic()
        for (peer, group, journal), seqs in done.items():
            if group in self._by_group:
                self._keep(peer, group, journal, seqs, now)
            if peer.is_up:  # Else it is repeated on the next link.
                peer.send(envelope.encode(Ack(group, journal, seqs[0], seqs[1:] or None)))

    def _keep(self, peer: Peer, group: str, journal: str, seqs: list[int], now: float) -> None:
        key = (group, journal)
        kept = self._answers.get(key)
        if kept is None:
            kept = self._answers[key] = Answers(peer)
            if len(self._answers) > JOURNALS_KEPT:
                self._answers.popitem(last=False)
        else:
            self._answers.move_to_end(key)
        kept.keep(peer, seqs, now)

    def repeat_answers(self, peer: Peer, subscription: Subscription, of: Peer | None = None) -> None:
        """Before it is asked for events: which process of the source serves a journal now is not known here, so each is told.

        `of`: only those to events that this one sent.
        """
        self.tell_done()
        for (group, journal), kept in self._answers.items():
            if group == subscription.group and kept.seqs and of in (None, kept.peer):
                seq, *also = kept.seqs
                peer.send(envelope.encode(Ack(group, journal, seq, also or None)))

    def _time_words(self) -> None:
        if self._words_timer is None and self._intakes and not self._closed:
            self._words_timer = self._reactor.call_later(self._at_work_interval, self._say_at_work)

    def _say_at_work(self) -> None:
        self._words_timer = None
        if not self._closed:
            for intake in self._intakes.values():
                if intake.in_hand:
                    intake.say_at_work()
            self._let_go_of_answers()
            self._time_words()

    def _let_go_of_answers(self) -> None:
        now = monotonic()
        for key, kept in list(self._answers.items()):
            kept.let_go(now)
            if not kept.seqs:
                del self._answers[key]

    # --- best effort -------------------------------------------------------------------------------------------------

    def _topic(self, intake: Intake) -> bytes:
        want = intake.subscription
        if want.kind == BROADCAST:
            return broadcast_topic(want.source, want.pattern)
        return member_topic(want.group, intake.member)

    def _tune(self, intake: Intake) -> None:
        if self._antenna is None:
            self._antenna = Antenna(self._reactor, self._sockets, self)
        topic = self._topic(intake)
        listeners = self._by_topic.setdefault(topic, [])
        if not listeners:
            self._antenna.tune(topic)
        listeners.append(intake)

    def _untune(self, intake: Intake) -> None:
        topic = self._topic(intake)
        listeners = self._by_topic[topic]
        listeners.remove(intake)
        if not listeners and self._antenna is not None:
            del self._by_topic[topic]
            self._antenna.untune(topic)
            for counts in self._counts.values():
                counts.pop(topic, None)

    def listen(self, tie: Tie, endpoint: str) -> None:
        """Hear the broadcasts of the publisher at the other end of `tie`."""
        if self._antenna is None or tie.endpoint == endpoint:
            return
        self.hang_up(tie)
        tie.endpoint = endpoint
        self._counts.setdefault(tie.peer.node, {})
        count = self._endpoints.get(endpoint, 0)
        self._endpoints[endpoint] = count + 1
        if not count:
            self._antenna.connect(endpoint)

    def hang_up(self, tie: Tie) -> None:
        endpoint, tie.endpoint = tie.endpoint, None
        if endpoint is None or self._antenna is None:
            return
        self._endpoints[endpoint] -= 1
        if not self._endpoints[endpoint]:
            del self._endpoints[endpoint]
            self._antenna.disconnect(endpoint)
        others = (other for intake in self._intakes.values() for other in intake.ties.values() if other is not tie)
        if not any(other.endpoint is not None and other.peer.node == tie.peer.node for other in others):
            self._counts.pop(tie.peer.node, None)

    def received(self, frame: bytes, payload: bytes | None) -> None:
        kind, first, second, body = frame.split(b"\0", 3)
        topic = b"\0".join((kind, first, second, b""))
        try:
            message = envelope.decode(body, payload)
        except ProtocolError as exc:
            _log.warning("a broadcast for %r is no message: %s", topic, exc)
            return
        if type(message) is not Event:
            return
        self._count(message, topic)
        for intake in self._by_topic.get(topic, ()):
            intake.take(IncomingEvent(intake, None, message))
            self._touched.add(intake)

    def all_received(self) -> None:
        # Reading is faster than handling: what has no room behind us stays in front, where there is room for 10,000.
        touched, self._touched = self._touched, set()
        if self._antenna is not None and any(intake.is_busy for intake in touched):
            self._antenna.pause()
            self._reactor.call_later(PAUSE, self._read_on, touched)
        if self.missed > self._missed_told and monotonic() - self._missed_told_at >= LOSS_LOG_INTERVAL:
            _log.warning("missed %d best-effort events: they came faster than they were handled", self.missed)
            self._missed_told, self._missed_told_at = self.missed, monotonic()

    def _read_on(self, touched: set[Intake]) -> None:
        if self._closed or self._antenna is None:
            return
        if any(intake.is_busy for intake in touched):
            self._reactor.call_later(PAUSE, self._read_on, touched)
        else:
            self._antenna.resume()

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
        self._intakes.clear()
        self._by_group.clear()
        self._answers.clear()
        self._counts.clear()
        if self._words_timer is not None:
            self._words_timer.cancel()
            self._words_timer = None
        if self._antenna is not None:
            self._antenna.close()
