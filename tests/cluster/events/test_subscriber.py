"""A subscriber's state of its publishers, and its removal. Links and publishers are fakes of this module."""

from types import SimpleNamespace

import pytest

from zmqservices.cluster.events import answers as module
from zmqservices.cluster.events.answers import JournalAnswers
from zmqservices.cluster.events.publisher_link import PublisherLink, SubscriptionStage
from zmqservices.cluster.events.subscriber import EventSubscriber
from zmqservices.cluster.events.subscription import BROADCAST, Subscription, broadcast_topic
from zmqservices.wire import envelope
from zmqservices.wire.headers import HeaderLimits
from zmqservices.wire.messages import Ack, Event, Grant, Subscribe, Subscribed

RELIABLE = Subscription("orders", "order.*", "mails.send")
CASUAL = Subscription("orders", "order.*", "caches.drop@here", BROADCAST, reliable=False)


class Reactor:
    """Does at once what is posted when it is told to, and lets no time pass."""

    def __init__(self):
        self.posted, self.timers = [], []

    def post(self, function, *args):
        self.posted.append(lambda: function(*args))

    def call_later(self, seconds, function, *args):
        timer = SimpleNamespace(is_cancelled=False, fire=lambda: function(*args))
        timer.cancel = lambda: setattr(timer, "is_cancelled", True)
        self.timers.append(timer)
        return timer

    def watch(self, source):
        return SimpleNamespace(close=lambda: None)

    def turn(self):
        posted, self.posted = self.posted, []
        for one in posted:
            one()


class Socket:
    def __getattr__(self, name):
        return lambda *args, **kwargs: None


class Peer:
    """A publisher's node at the other end of a link."""

    def __init__(self, node):
        self.node = node
        self.endpoint = f"tcp://{node}:1"
        self.is_up = True
        self.sent = []

    def send(self, frames):
        self.sent.append(envelope.decode(frames))
        return self.is_up

    def kinds(self):
        return [type(message) for message in self.sent]


class House:
    """A subscriber, and publishers that come and go."""

    def __init__(self):
        self.now = 0.0
        self.reactor = Reactor()
        self.pool = SimpleNamespace(instances={})
        caller = SimpleNamespace(reactor=self.reactor, expect=lambda service: self.pool, on_change=[], other_kinds={})
        caller.header_limits = HeaderLimits()
        self.subscriber = EventSubscriber(caller, SimpleNamespace(sub=Socket), "member", lambda: self.now)
        self.taken = []

    def subscribe(self, want):
        consumer = self.subscriber.subscribe(want, self.taken.append, 10)
        if want.reliable:
            self.latest = consumer.id
        return consumer

    def comes(self, node, host="here"):
        peer = Peer(node)
        self.pool.instances[node] = SimpleNamespace(peer=peer, left=False, record=SimpleNamespace(host=host))
        self.subscriber.update()
        return peer

    def lost(self, peer):
        peer.is_up = False
        self.subscriber.update()

    def goes(self, peer):
        peer.is_up = False
        del self.pool.instances[peer.node]
        self.subscriber.update()

    def sends(self, peer, seq, origin="j", group="mails.send", **fields):
        fields = {"source": "orders", "type": "order.paid", "body": b"", "subscription": self.latest, **fields}
        message = Event(origin, seq, seq - 1, group=group, serializer="msgpack", **fields)
        self.subscriber.caller.other_kinds[Event](peer, message)
        return self.taken[-1] if self.taken else None


@pytest.fixture
def stage():
    return House()


# --- an event that comes again -------------------------------------------------------------------------------------------


def test_an_event_that_comes_again_on_the_same_link_is_counted_once(stage):
    consumer = stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    event = stage.sends(peer, 1)

    stage.sends(peer, 1)

    assert len(stage.taken) == 1
    assert consumer.links[peer].in_hand == 1
    # Its publisher spent credit on it once more.
    assert peer.sent[-1] == Grant("mails.send", 1, consumer.id)
    event.done()
    assert consumer.links[peer].in_hand == 0
    peer.sent.clear()
    consumer.send_alive()
    assert peer.sent == []


def test_an_event_that_comes_again_on_a_new_link_moves_there(stage):
    consumer = stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    event = stage.sends(peer, 1)
    stage.lost(peer)
    peer.is_up = True
    stage.subscriber.update()

    stage.sends(peer, 1)

    assert len(stage.taken) == 1
    assert consumer.links[peer].in_hand == 1
    event.done()
    assert consumer.links[peer].in_hand == 0


def test_an_event_that_comes_again_from_another_publisher_moves_there(stage):
    consumer = stage.subscribe(RELIABLE)
    one, two = stage.comes("one"), stage.comes("two")
    event = stage.sends(one, 1)

    stage.sends(two, 1)

    assert (consumer.links[one].in_hand, consumer.links[two].in_hand) == (0, 1)
    event.done()
    stage.reactor.turn()
    assert two.sent[-1] == Ack("mails.send", "j", 1, None, consumer.id)


# --- answers that nobody has heard -----------------------------------------------------------------------------------------


def test_acks_for_a_publisher_that_left_go_to_the_next_one_before_the_subscription(stage):
    stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    first, second = stage.sends(peer, 1), stage.sends(peer, 2)
    first.done()
    stage.reactor.turn()
    stage.goes(peer)
    second.done()

    peer = stage.comes("two")

    assert peer.sent[0] == Ack("mails.send", "j", 1, [2])
    assert peer.kinds() == [Ack, Subscribe]


def test_publishers_of_the_same_host_get_the_acks_since_one_takes_over_the_journal(stage):
    stage.subscribe(RELIABLE)
    gone, heir, other = stage.comes("gone"), stage.comes("heir"), stage.comes("other", host="there")
    first, second = stage.sends(gone, 1), stage.sends(gone, 2)
    first.done()
    stage.reactor.turn()
    for peer in (heir, other):
        peer.sent.clear()

    stage.lost(gone)

    assert heir.sent == [Ack("mails.send", "j", 1)]
    stage.goes(gone)
    second.done()
    stage.reactor.turn()
    assert heir.sent == [Ack("mails.send", "j", 1), Ack("mails.send", "j", 2)]
    assert other.sent == []


def test_an_answer_is_unconfirmed_for_a_while_and_while_its_publisher_is_away(stage):
    consumer = stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    [words] = stage.reactor.timers
    stage.sends(peer, 1).done()
    stage.reactor.turn()
    stage.lost(peer)

    stage.now = 1000.0
    words.fire()

    [kept] = stage.subscriber.answers._kept.values()
    assert list(kept.seqs) == [1]
    # One of another host does not serve its journal; one of its own does, or will have been told before it does.
    confirmed(stage, consumer, stage.comes("elsewhere", host="there"))
    stage.reactor.timers[-1].fire()
    assert stage.subscriber.answers._kept
    confirmed(stage, consumer, stage.comes("next"))
    stage.reactor.timers[-1].fire()
    assert not stage.subscriber.answers._kept


def confirmed(stage, consumer, peer):
    stage.subscriber.caller.other_kinds[Subscribed](peer, Subscribed(consumer.id))


def test_the_number_of_kept_answers_is_bounded(stage, monkeypatch):
    monkeypatch.setattr(module, "JOURNALS_KEPT", 3)
    stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    for number in range(10):
        stage.sends(peer, 1, origin=f"j{number}").done()
        stage.reactor.turn()

    assert [journal for _, journal in stage.subscriber.answers._kept] == ["j7", "j8", "j9"]
    answers = JournalAnswers()
    answers.add(PublisherLink(peer, "here"), list(range(5000)), 0.0)
    assert len(answers.seqs) == len(answers.times) == module.ANSWERS_KEPT


# --- nothing is left of those who are gone ---------------------------------------------------------------------------------


def test_nothing_is_kept_of_removed_publishers(stage):
    consumer = stage.subscribe(CASUAL)
    topic = broadcast_topic("orders", "order.*")
    for node in ("one", "two", "three"):
        peer = stage.comes(node)
        stage.subscriber.caller.other_kinds[Subscribed](peer, Subscribed(consumer.id, {"events": peer.endpoint}))
        assert consumer.links[peer].stage is SubscriptionStage.ASKED
        message = Event(node, 3, 2, "orders", "order.paid", b"", None, 1, None, None, "msgpack", 0.0)
        stage.subscriber.broadcasts.on_broadcast(topic + envelope.encode(message), None)
        assert stage.subscriber.broadcasts._last_seqs == {node: {topic: 3}}

        stage.goes(peer)
        # Its last words, which were in the queue.
        stage.subscriber.broadcasts.on_broadcast(topic + envelope.encode(message), None)

        assert stage.subscriber.broadcasts._last_seqs == stage.subscriber.broadcasts._endpoints == {}
    assert len(stage.taken) == 6


def test_a_gap_of_best_effort_events_is_counted(stage):
    consumer = stage.subscribe(CASUAL)
    peer = stage.comes("one")
    stage.subscriber.caller.other_kinds[Subscribed](peer, Subscribed(consumer.id, {"events": peer.endpoint}))
    for seq in (3, 4, 9):
        message = Event("one", seq, seq - 1, "orders", "order.paid", b"", None, 1, None, None, "msgpack", 0.0)
        stage.subscriber.broadcasts.on_broadcast(broadcast_topic("orders", "order.*") + envelope.encode(message), None)

    assert stage.subscriber.broadcasts.missed == 4


def test_nothing_is_kept_of_removed_handlers(stage):
    subscriber = stage.subscriber
    peer = stage.comes("one")
    for _ in range(3):
        reliable, casual = stage.subscribe(RELIABLE), stage.subscribe(CASUAL)
        subscriber.caller.other_kinds[Subscribed](peer, Subscribed(casual.id, {"events": peer.endpoint}))
        stage.sends(peer, 1).done()
        stage.reactor.turn()
        assert subscriber.answers._kept and subscriber._by_group
        assert subscriber.broadcasts._last_seqs and subscriber.broadcasts._by_topic
        reliable.end()
        casual.end()

    assert not subscriber._consumers and not subscriber._by_group and not subscriber.answers._kept
    for kept in ("_by_topic", "_last_seqs", "_endpoints"):
        assert not getattr(subscriber.broadcasts, kept), kept


def test_closing_a_subscriber_cancels_its_timer(stage):
    stage.subscribe(RELIABLE)
    [timer] = stage.reactor.timers

    stage.subscriber.close()

    assert timer.is_cancelled
