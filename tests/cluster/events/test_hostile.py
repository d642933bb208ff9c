"""Members and publishers that break the protocol: no other member loses an event."""

import os

import pytest

from tests.cluster.events.test_subscriber import CASUAL, RELIABLE, House
from tests.events.stage import Notes, Orders, until
from tests.events.test_deliveries import mails_that_note
from tests.rpc.test_membership import node_of
from zmqservices.cluster.events.dead_letter_errors import plain_error
from zmqservices.cluster.events.publisher_link import ROOM
from zmqservices.cluster.events.subscription import broadcast_topic
from zmqservices.events import event_handler
from zmqservices.journal import Group, Journal, NewEvent, group_state
from zmqservices.transport import DealerLink
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Batch, Event, Hello, Nack, Subscribe, Subscribed

GROUP = "mails.send:order.*"


class Stranger:
    """A node by hand, on a link of its own: what it sends is nobody's fault but its own."""

    def __init__(self, container, namespace):
        self.node = os.urandom(6).hex()
        self._heard = []
        self._is_linked = False
        node = node_of(container)
        self._link = DealerLink(node.reactor, node._sockets, node.call_server.endpoint, self)
        until(lambda: self._is_linked)
        until(lambda: self._link.send(envelope.encode(Hello(1, 0, self.node, namespace))))

    def on_connect(self):
        self._is_linked = True

    def on_disconnect(self):
        pass

    def on_message(self, body):
        message = envelope.decode(body)
        self._heard += [envelope.message_of(one) for one in message.messages] if type(message) is Batch else [message]
        return False

    def on_batch_end(self):
        pass

    def says(self, *messages):
        for message in messages:
            assert self._link.send(envelope.encode(message))

    def subscribe(self, group=GROUP, pattern="order.*", kind="service_pool", id=1, credit=1, member=None, **options):
        member = member or f"{self.node}.{id}"
        self.says(Subscribe(id, "orders", pattern, kind, member, group, True, credit, options or None))
        return self.hears(Subscribed)

    def hears(self, kind):
        until(lambda: any(type(message) is kind for message in self._heard))
        found = next(message for message in self._heard if type(message) is kind)
        self._heard.remove(found)
        return found

    def close(self):
        self._link.close()


@pytest.fixture
def stranger(cluster_config):
    strangers = []

    def make(container):
        strangers.append(Stranger(container, cluster_config["NAMESPACE"]))
        return strangers[-1]

    yield make
    for one in strangers:
        one.close()


def waiting(cluster, group=GROUP):
    [found] = [one for one in cluster["events:orders"].stats()["journals"][0]["groups"] if one["group"] == group]
    return found["waiting"]


# --- who begins anew ---------------------------------------------------------------------------------------------------------


def test_a_node_that_sends_hello_and_subscribe_together_is_a_member(serve, cluster, stranger, cluster_config):
    orders = serve(Orders)
    mails = stranger(orders)
    mails.subscribe()
    member = f"{mails.node}.1"

    mails.says(
        Hello(1, 0, mails.node, cluster_config["NAMESPACE"]),
        Subscribe(1, "orders", "order.*", "service_pool", member, GROUP, True, 1, None),
    )
    mails.hears(Subscribed)
    (consumer_group,) = node_of(orders).publisher.sources["orders"].groups.by_name.values()
    cluster.orders.tell_all("order.paid", 1)

    assert mails.hears(Event).type == "order.paid"
    assert list(consumer_group.members) == [member]


def test_a_handler_of_a_disconnected_node_subscribes_again(serve, cluster):
    notes = Notes()
    orders = serve(Orders)
    serve(mails_that_note(notes))
    source = node_of(orders).publisher.sources["orders"]
    (consumer_group,) = source.groups.by_name.values()
    (member,) = consumer_group.members.values()

    node_of(orders).call_server.connections.give_up(member.client)
    until(lambda: consumer_group.members and member not in consumer_group.members.values())
    cluster.orders.tell_all("order.paid", 3)

    assert notes.wait_for(3) == [0, 1, 2]


# --- what a group is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "want", [{"pattern": "nothing"}, {"kind": "singleton"}, {"kind": "junk"}, {"member": "of.another"}, {"group": "x" * 5000}]
)
def test_a_contradicting_subscription_is_refused_and_waiting_events_still_come(serve, cluster, stranger, want):
    notes = Notes()
    Mails = mails_that_note(notes)
    orders = serve(Orders)
    serve(Mails).stop()
    cluster.orders.tell_all("order.paid", 5)

    answer = stranger(orders).subscribe(**want)

    assert answer.info["refused"]
    assert waiting(cluster) == 5
    serve(Mails)
    assert notes.wait_for(5) == list(range(5))


def test_a_refused_handler_logs_it_and_starts(serve, cluster, stranger, caplog):
    stranger(serve(Orders)).subscribe(kind="singleton")

    serve(mails_that_note(Notes()))

    assert f"group '{GROUP}' gets the events 'order.*' as 'singleton' for as long as it lives" in caplog.text


def test_groups_and_subscriptions_are_bounded(serve, cluster, stranger):
    orders = serve(Orders, events_max_groups=3, events_max_subscriptions=2)
    one, other = stranger(orders), stranger(orders)

    refused = [one.subscribe(group=f"g{id}", id=id).info.get("refused") for id in (1, 2, 3)]
    refused += [other.subscribe(group=f"h{id}", id=id).info.get("refused") for id in (1, 2)]

    assert [bool(one) for one in refused] == [False, False, True, False, True]
    assert "a node has 2 subscriptions at most (events_max_subscriptions)" in refused[2]
    assert "'orders' keeps events for 3 groups already, its events_max_groups" in refused[4]


def test_a_second_subscription_with_an_id_takes_the_place_of_the_first(serve, cluster, stranger):
    one = stranger(serve(Orders))
    one.subscribe(group="first")
    one.subscribe(group="second")

    groups = {group["group"]: group["members"] for group in cluster["events:orders"].stats()["journals"][0]["groups"]}

    assert groups == {"first": [], "second": [f"{one.node}.1"]}


# --- who may answer ----------------------------------------------------------------------------------------------------------


def test_answers_of_a_node_that_is_not_a_member_do_not_count(serve, cluster, stranger):
    notes = Notes()
    orders = serve(Orders)
    serve(mails_that_note(notes)).stop()
    cluster.orders.tell_all("order.paid", 3)
    origin = node_of(orders).publisher.sources["orders"].journals.own.journal.origin
    one = stranger(orders)

    for subscription in (None, 0, 1):
        one.says(Ack(GROUP, origin, 1, [2, 3], subscription), Nack(GROUP, origin, 1, 0.0, {}, subscription))
    one.subscribe(group="another")

    assert waiting(cluster) == 3
    serve(mails_that_note(notes))
    assert notes.wait_for(3) == [0, 1, 2]


def test_answers_of_a_member_to_events_of_another_member_do_not_count(serve, cluster, stranger):
    orders = serve(Orders)
    one, other = stranger(orders), stranger(orders)
    one.subscribe(credit=1)
    cluster.orders.tell("order.paid", "mine")
    event = one.hears(Event)
    other.subscribe(credit=0)

    other.says(Ack(GROUP, event.origin, event.seq, None, 1), Nack(GROUP, event.origin, event.seq, 0.0, {"value": "no"}, 1))
    other.subscribe(group="all was heard", id=2)

    assert waiting(cluster) == 1
    one.says(Ack(GROUP, event.origin, event.seq, None, event.subscription))
    until(lambda: waiting(cluster) == 0)
    assert cluster["events:orders"].dead_letters() == []


# --- what fills a journal ----------------------------------------------------------------------------------------------------


def test_a_group_without_members_makes_no_dispatch_fail(serve, connect, stranger, monkeypatch):
    monkeypatch.setattr(group_state, "UNPROVEN_FOR", 0.0)
    settings = {"JOURNAL_MAX_BYTES": 200_000, "JOURNAL_FULL_TIMEOUT": 0.2}
    orders = serve(Orders, **settings)
    stranger(orders).subscribe(group="nobody", pattern="#", credit=0)

    for _ in range(40):
        connect().orders.tell("order.paid", "x" * 20_000)


# --- errors as they come -----------------------------------------------------------------------------------------------------

ODD = {
    "keys": {1: "a", None: "b", (1, 2): "c", "value": "kept"},
    "values": {"exc_type": 7, "exc_args": {"a": [b"\xff", {"deep": [[[]]]}]}, "value": "kept"},
    "numbers": {"value": "kept", "exc_args": [2**200, float("nan")], "x" * 10_000: "long"},
    "size": {"value": "kept" + "x" * 1_000_000, **{f"k{n}": "v" for n in range(100)}},
}


@pytest.mark.parametrize("error", ODD.values(), ids=ODD)
def test_an_error_that_cannot_be_stored_unchanged_is_stored_in_another_form(serve, cluster, stranger, error):
    one = stranger(serve(Orders))
    one.subscribe(max_deliveries=1)
    cluster.orders.tell("order.paid", 1)
    event = one.hears(Event)

    one.says(Nack(GROUP, event.origin, event.seq, 0.0, error, event.subscription))

    until(lambda: cluster["events:orders"].dead_letters())
    [letter] = cluster["events:orders"].dead_letters()
    assert letter["error"]["value"].startswith("kept")


@pytest.mark.parametrize("error", [{}, {"value": "\udcff"}, *ODD.values()])
def test_a_stored_error_is_plain_and_short(error):
    kept = plain_error(error)

    assert {"exc_type", "exc_path", "exc_args", "value"} <= set(kept) and len(kept) < 30
    assert all(type(key) is str for key in kept) and len(str(kept)) < 50_000
    str(kept).encode("utf-8")


# --- what a publisher may do at the receiver -----------------------------------------------------------------------------------


@pytest.fixture
def stage():
    return House()


def test_an_event_without_a_subscription_is_not_handled(stage):
    stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    peer.sent.clear()

    for fields in ({"subscription": 7}, {"subscription": None}, {"group": "other"}, {"source": "stock"}, {"type": "stock.low"}):
        stage.sends(peer, 1, **fields)

    assert stage.taken == [] and stage.subscriber.refused == 5
    assert peer.sent == []


def test_an_event_from_a_publisher_that_has_left_is_not_handled(stage):
    stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    stage.goes(peer)

    stage.sends(peer, 1)

    assert stage.taken == [] and stage.subscriber.refused == 1


def test_events_beyond_the_credit_are_given_back_and_come_later(stage):
    consumer = stage.subscribe(RELIABLE)
    peer = stage.comes("one")

    for seq in range(1, 100):
        stage.sends(peer, seq)

    assert len(stage.taken) == consumer.links[peer].in_hand == 10
    assert peer.sent[-1] == Nack("mails.send", "j", 99, 1.0, None, consumer.id)
    stage.taken[0].done()
    stage.sends(peer, 100)
    assert len(stage.taken) == 11


def test_each_journal_has_its_credit_and_all_together_have_bounded_room(stage):
    consumer = stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    body = bytes(ROOM // 15)

    for journal in range(100):
        for seq in range(1, 20):
            stage.sends(peer, seq, origin=f"j{journal}", body=body)

    link = consumer.links[peer]
    assert 15 <= len(stage.taken) <= 17
    assert link.bytes == len(body) * link.in_hand
    for event in list(stage.taken):
        event.done()
    assert (link.in_hand, link.bytes, link.journals) == (0, 0, {})


def test_best_effort_events_on_a_link_need_no_answer(stage):
    consumer = stage.subscribe(RELIABLE)
    peer = stage.comes("one")
    peer.sent.clear()

    event = stage.sends(peer, 1, origin="one")
    event.done()
    stage.reactor.turn()

    assert not event.is_reliable and consumer.in_hand == {} and peer.sent == []


def test_a_broadcast_of_another_type_or_source_is_not_handled(stage):
    stage.subscribe(CASUAL)
    topic = broadcast_topic("orders", "order.*")

    for source, type_ in (("orders", "stock.low"), ("stock", "order.paid"), ("orders", "order.paid")):
        message = Event("one", 1, 0, source, type_, b"", None, 1, None, None, "msgpack", 0.0)
        stage.subscriber.broadcasts.on_broadcast(topic + envelope.encode(message), None)

    assert [event.message.type for event in stage.taken] == ["order.paid"]


def test_the_queue_of_best_effort_events_is_bounded(serve, cluster):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.*", reliable_delivery=False)
        def send(self, payload):
            self.notes_.append(len(payload))

    mails = serve(Mails, max_queued_bytes=100_000)
    [handler] = mails.entrypoints
    serve(Orders)
    room = [handler.server.has_room_for(one) for one in [FakeEvent(60_000), FakeEvent(60_000), FakeEvent(30_000)]]
    handler.server.handled(FakeEvent(60_000))
    handler.server.handled(FakeEvent(30_000))

    cluster.orders.tell("order.paid", "x" * 500_000)

    assert room == [True, False, True]
    # One that is alone is taken whatever its size.
    assert notes.wait_for(1) == [500_000]
    until(lambda: handler.server._best_effort_bytes == 0)


class FakeEvent:
    is_reliable = False

    def __init__(self, size):
        self.message = Event("one", 1, 0, "orders", "order.paid", bytes(size))


def test_an_orphan_with_another_pattern_for_a_group_is_kept_and_logged(serve, cluster, caplog):
    notes = Notes()
    orders = serve(Orders)
    serve(mails_that_note(notes))
    left = journal_beside(node_of(orders), Group(GROUP, "stock.*", "earliest"))

    until(lambda: "keeps events 'stock.*' for group 'mails.send:order.*'" in caplog.text)
    cluster.orders.tell("order.paid", 1)

    assert notes.wait_for(1) == [1]
    assert left.exists()


def journal_beside(node, group):
    """The path of a journal with one event for `group`, which another process has left."""
    [source] = node.publisher.sources.values()
    answers = []
    journal = Journal.open(source.journals.own.journal.path.parent, "orders")
    journal.ensure_group(group, answers.append)
    journal.append(NewEvent("stock.low", b"\x01"), answers.append)
    until(lambda: len(answers) == 2)
    journal.close()
    source.orphans.look()
    return journal.path


def test_refused_subscriptions_do_not_fill_the_log(serve, cluster, stranger, caplog):
    container = serve(Orders)
    cluster.orders.tell_all("order.paid", 1)
    member = stranger(container)

    for number in range(50):
        member.says(Subscribe(number, f"nobody-{number}", "#", "service_pool", "m", "g", True, 1))
        member.subscribe(kind="nothing", id=number)

    lines = [record.getMessage() for record in caplog.records if "sent what cannot be handled" in record.getMessage()]
    assert len(lines) == 1
    assert f"node {member.node} at 127.0.0.1" in lines[0]
    assert "'nobody-0'" in lines[0]
