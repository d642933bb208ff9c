"""Events in a closed cluster: which nodes may publish, handle, listen, answer for a group, and administer."""

import pytest

from discovery import open_directory
from discovery.security.keys import Keys
from tests.events.stage import Notes
from tests.security.stage import Stranger
from tests.stage import Context, until
from zmqservices.events import BROADCAST, SERVICE_POOL, SINGLETON, EventDispatcher, event_handler
from zmqservices.exceptions import Forbidden
from zmqservices.rpc import rpc
from zmqservices.standalone.events import event_dispatcher
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.transport import SocketOptions, Sockets
from zmqservices.wire.messages import MAJOR, MINOR, Ack, Event, Hello, Ping, Pong, Subscribe, Subscribed, Welcome


class Orders:
    name = "orders"
    dispatch = EventDispatcher()
    broadcast = EventDispatcher(reliable=False)

    @rpc
    def tell(self, event, payload):
        self.dispatch(event, payload)

    @rpc
    def tell_best_effort(self, event, payload):
        self.broadcast(event, payload)


def mails(notes, handler_type=SERVICE_POOL, reliable=True, name="mails", pattern="paid"):
    class Mails:
        context = Context()

        @event_handler("orders", pattern, handler_type=handler_type, reliable_delivery=reliable)
        def send(self, payload):
            notes.lines.append((payload, self.context.peer))

    Mails.name = name
    return Mails


@pytest.fixture
def orders(cluster, start):
    return start(Orders, cluster.node("orders", serves="orders", publishes="orders"))


@pytest.fixture
def client(cluster, orders):
    with ServiceRpcProxy("orders", cluster.node("client", calls="orders", administers="orders.stats")) as proxy:
        yield proxy


@pytest.mark.parametrize("handler_type", [SERVICE_POOL, SINGLETON])
def test_a_handler_whose_certificate_names_the_event_gets_it(cluster, start, client, handler_type):
    notes = Notes()
    start(mails(notes, handler_type), cluster.node("mails", serves="mails", handles="orders.paid"))

    client.tell("paid", 1)

    [(payload, peer)] = notes.wait_for(1)
    assert payload == 1
    assert peer.startswith("orders-")


@pytest.mark.parametrize("handler_type", [SERVICE_POOL, SINGLETON, BROADCAST])
def test_best_effort_events_reach_those_who_may_listen(cluster, start, client, handler_type):
    notes = Notes()
    start(mails(notes, handler_type, reliable=False), cluster.node("mails", serves="mails", handles="orders"))

    client.tell_best_effort("paid", 1)

    assert [payload for payload, _ in notes.wait_for(1)] == [1]


def test_a_handler_whose_certificate_does_not_name_the_event_gets_nothing(cluster, start, client, caplog):
    notes, allowed = Notes(), Notes()
    start(mails(notes), cluster.node("mails", serves="mails", handles="orders.shipped"))
    start(mails(allowed, name="others"), cluster.node("others", serves="others", handles="orders.paid"))

    client.tell("paid", 1)

    allowed.wait_for(1)
    assert notes.lines == []
    assert "handles 'orders.shipped', and 'orders.paid' is not among that" in caplog.text


def test_a_handler_may_not_ask_for_more_types_than_its_certificate_names(cluster, start, client, caplog):
    notes, allowed = Notes(), Notes()
    start(mails(notes, pattern="#"), cluster.node("mails", serves="mails", handles="orders.paid"))
    start(mails(allowed, name="others", pattern="#"), cluster.node("others", serves="others", handles="orders"))

    client.tell("paid", 1)

    allowed.wait_for(1)
    assert notes.lines == []


def test_only_those_publish_whose_certificate_says_so(cluster, start):
    with pytest.raises(Forbidden, match="must not publish events of 'orders': .*publishes 'others'"):
        start(Orders, cluster.node("orders", serves="orders", publishes="others"))

    with event_dispatcher(cluster.node("script")) as dispatch:
        with pytest.raises(Forbidden, match="publishes nothing"):
            dispatch("orders", "paid", 1)


def test_operators_methods_need_a_permission_of_their_own(cluster, orders, client):
    client.tell("paid", 1)
    with ServiceRpcProxy("events:orders", cluster.node("operator", administers="orders.stats")) as operator:
        assert operator.stats()["source"] == "orders"
        with pytest.raises(Forbidden, match="administers 'orders.stats', and 'orders.drop' is not among that"):
            operator.drop("x")
    with ServiceRpcProxy("events:orders", cluster.node("caller", calls="*")) as caller:
        with pytest.raises(Forbidden, match="administers nothing"):
            caller.stats()


# --- peers made by hand ---------------------------------------------------------------------------------------------------


@pytest.fixture
def door(cluster, client):
    """The publisher's record."""
    client.tell("paid", 0)
    with open_directory(cluster.registry.url, namespace=None, keys=Keys.read(cluster.keys("reader"))) as directory:
        assert directory.wait_ready(10)

        def found():
            listed = [one.record for one in directory.service("events:orders")]
            return max(listed, key=lambda one: one.incarnation, default=None)

        until(found, 10)
        return found()


class Member(Stranger):
    """A peer with a certificate that has said HELLO."""

    def __init__(self, record, keys):
        super().__init__(record.endpoints["rpc"], keys.pair, bytes.fromhex(record.public_key))
        self.say(Hello(MAJOR, MINOR, "member", "default", {"certificate": keys.signed}))
        self.heard(Welcome)

    def heard(self, kind):
        while type(message := self.hear()) is not kind:
            pass
        return message


def subscribe(group, kind=SERVICE_POOL, reliable=True, pattern="paid"):
    return Subscribe(1, "orders", pattern, kind, "member.1", group, reliable, 10, {"start": "earliest"})


def test_nobody_joins_the_group_of_a_service_that_it_does_not_serve(cluster, door):
    keys = Keys.read(cluster.keys("thief", handles="orders", serves="thief"))

    for want in (
        subscribe("mails.send:paid"),
        subscribe("mails.send:paid", reliable=False),
        subscribe("mails.send:paid@host", BROADCAST),
        subscribe("mails.send:paid@", BROADCAST, reliable=False),
        subscribe("nonsense"),
    ):
        with Member(door, keys) as member:
            member.say(want)
            refused = member.heard(Subscribed)
        assert "belongs to the service" in refused.info["refused"], want

    with Member(door, keys) as member:
        member.say(subscribe("thief.send:paid"))
        assert "refused" not in (member.heard(Subscribed).info or {})


def test_an_answer_for_a_group_counts_from_its_members_only(cluster, start, client, door, caplog):
    notes = Notes()
    service = mails(notes)
    settings = cluster.node("mails", serves="mails", handles="orders")
    start(service, settings).stop()
    client.tell("paid", "kept")
    keys = Keys.read(cluster.keys("forger", handles="orders", serves="forger"))

    with Member(door, keys) as member:
        with ServiceRpcProxy("events:orders", cluster.node("operator", administers="orders")) as operator:
            journal = operator.stats()["journals"][0]
            last = journal["last_seq"]
            for subscription in (None, 1, 7):
                member.say(Ack("mails.send:paid", journal["id"], last, [1, 2], subscription))
            member.say(Ping(5))
            while member.heard(Pong).token != 5:
                pass
            [group] = [one for one in operator.stats()["journals"][0]["groups"] if one["group"] == "mails.send:paid"]

    assert group["waiting"] >= 1
    assert "an ACK for a group that it must not answer for: the group 'mails.send:paid' belongs to the service" in caplog.text
    start(service, settings)
    until(lambda: "kept" in [payload for payload, _ in notes.lines], 10)


def test_there_is_no_socket_for_broadcasts(cluster, client, door):
    keys = Keys.read(cluster.keys("radio", handles="orders"))

    with Member(door, keys) as member:
        member.say(subscribe("tail:member", BROADCAST, reliable=False))
        info = member.heard(Subscribed).info
        client.tell_best_effort("paid", 7)
        event = member.heard(Event)

    assert not info and "events" not in door.endpoints
    assert (event.type, event.source, event.subscription) == ("paid", "orders", 1)


def test_sockets_that_could_not_ask_for_certificates_are_not_made(cluster):
    sockets = Sockets(SocketOptions(keys=Keys.read(cluster.keys("node"))))
    try:
        for make in (sockets.xpub, sockets.sub):
            with pytest.raises(RuntimeError, match="not encrypted"):
                make()
    finally:
        sockets.close()
