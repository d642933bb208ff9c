"""Several instances of one service in one process, which share its node: who of them gets an event."""

import gevent
import pytest

from tests.events.stage import Gate, Orders, until
from zmqservices.events import BROADCAST, SERVICE_POOL, SINGLETON, EventDispatcher, EventHandler, event_handler
from zmqservices.rpc import rpc


class Heard:
    """What the instances of a service have handled: (instance, method, data)."""

    def __init__(self):
        self.lines = []

    def by(self, instance):
        return [data for who, _, data in self.lines if who == instance]

    def wait_for(self, count):
        until(lambda: len(self.lines) >= count)
        return self.lines


@pytest.fixture
def heard():
    return Heard()


class KnownByHost(EventHandler):
    broadcast_identifier = "this-host"


by_host = KnownByHost.decorator


def mails(heard, who, service="mails", handler=event_handler, **options):
    class Mails:
        name = service

        @handler("orders", "order.*", **options)
        def send(self, payload):
            heard.lines.append((who, "send", payload))

    return Mails


CASES = {
    "pool": {"handler_type": SERVICE_POOL},
    "pool, without a promise": {"handler_type": SERVICE_POOL, "reliable_delivery": False},
    "singleton": {"handler_type": SINGLETON},
    "singleton, without a promise": {"handler_type": SINGLETON, "reliable_delivery": False},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_one_instance_gets_each_event_and_they_share_them(serve, cluster, heard, options):
    serve(mails(heard, "a", **options), max_workers=1)
    serve(mails(heard, "b", **options), max_workers=1)
    serve(Orders)

    cluster.orders.tell_all("order.paid", 20)

    heard.wait_for(20)
    assert sorted(data for *_, data in heard.lines) == list(range(20))
    assert heard.by("a") and heard.by("b")


BROADCASTS = {
    "without a promise": {"handler_type": BROADCAST, "reliable_delivery": False},
    "reliable": {"handler_type": BROADCAST, "handler": by_host},
}


@pytest.mark.parametrize("options", BROADCASTS.values(), ids=BROADCASTS)
def test_each_instance_gets_each_broadcast_once(serve, cluster, heard, options):
    for who in "abc":
        serve(mails(heard, who, **options))
    serve(Orders)

    cluster.orders.tell_all("order.paid", 5)

    heard.wait_for(15)
    assert [heard.by(who) for who in "abc"] == [list(range(5))] * 3


def test_what_one_instance_does_to_its_copy_the_other_does_not_see(serve, cluster, heard):
    class Changing:
        name = "mails"

        @event_handler("orders", "order.*", handler_type=BROADCAST, reliable_delivery=False)
        def send(self, payload):
            payload["seen"] += 1
            heard.lines.append((None, "send", payload))

    serve(Changing)
    serve(Changing)
    serve(Orders)

    cluster.orders.tell("order.paid", {"seen": 0})

    assert [data for *_, data in heard.wait_for(2)] == [{"seen": 1}, {"seen": 1}]


def test_of_two_services_in_two_instances_each_gets_an_event_once(serve, cluster, heard):
    for service in ("mails", "stock"):
        for _ in range(2):
            serve(mails(heard, service, service))
    serve(Orders)

    cluster.orders.tell_all("order.paid", 6)

    heard.wait_for(12)
    assert sorted(heard.by("mails")) == sorted(heard.by("stock")) == list(range(6))


def test_two_handlers_of_a_service_each_get_an_event_once_whichever_instance_that_is(serve, cluster, heard):
    class Mails:
        name = "mails"

        @event_handler("orders", "order.*")
        def one(self, payload):
            heard.lines.append((None, "one", payload))

        @event_handler("orders", "order.*")
        def other(self, payload):
            heard.lines.append((None, "other", payload))

    serve(Mails)
    serve(Mails)
    serve(Orders)

    cluster.orders.tell_all("order.paid", 4)

    heard.wait_for(8)
    assert sorted(heard.lines) == [(None, method, number) for method in ("one", "other") for number in range(4)]


def test_a_singleton_of_two_services_is_handled_once_in_all(serve, cluster, heard):
    for service in ("mails", "stock"):
        for _ in range(2):
            serve(mails(heard, service, service, handler_type=SINGLETON))
    serve(Orders)

    cluster.orders.tell_all("order.paid", 8)

    heard.wait_for(8)
    assert sorted(data for *_, data in heard.lines) == list(range(8))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_when_one_goes_the_other_handles_what_comes_and_what_it_left(serve, cluster, heard, end):
    class Slow:
        name = "mails"
        gate = Gate()

        @event_handler("orders", "order.*")
        def send(self, payload):
            self.gate()
            heard.lines.append(("a", "send", payload))

    first = serve(Slow, max_workers=1)
    serve(mails(heard, "b"), max_workers=1)
    serve(Orders)
    cluster.orders.tell_all("order.paid", 10)
    Slow.gate.wait_for(1)

    ending = gevent.spawn(getattr(first, end))
    heard.wait_for(9)
    if end == "kill":
        Slow.gate.wait_for(0)
    Slow.gate.open()
    ending.get(timeout=30)
    cluster.orders.tell("order.paid", 10)

    heard.wait_for(11)
    assert sorted(data for *_, data in heard.lines) == list(range(11))
    assert len(heard.by("a")) == (1 if end == "stop" else 0)


def test_an_event_that_fails_at_one_instance_costs_the_other_no_credit(serve, cluster, heard):
    def failing(who):
        class Mails:
            name = "mails"

            @event_handler("orders", "order.*", max_deliveries=2)
            def send(self, payload):
                heard.lines.append((who, "send", payload))
                if payload % 2:
                    raise ValueError("no")

        return Mails

    containers = [serve(failing(who), max_workers=1, events_backoff=0.001) for who in "ab"]
    serve(Orders, events_backoff=0.001)

    cluster.orders.tell_all("order.paid", 20)

    heard.wait_for(30)
    until(lambda: len(cluster["events:orders"].dead_letters()) == 10)
    assert {handler._consumer._owner.refused for one in containers for handler in one.entrypoints} == {0}


def test_instances_that_publish_share_the_journal_and_the_last_to_go_closes_it(serve, cluster, heard):
    class Telling:
        name = "orders"
        dispatch = EventDispatcher()

        @rpc
        def tell(self, data):
            self.dispatch("order.paid", data)

    serve(mails(heard, "a"), elsewhere=True)
    first = serve(Telling)
    serve(Telling)
    for number in range(4):
        cluster.orders.tell(number)
    first.stop()

    cluster.orders.tell(4)

    assert [data for *_, data in heard.wait_for(5)] == list(range(5))
    assert len(cluster["events:orders"].stats()["journals"]) == 1
