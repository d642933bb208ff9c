"""Who gets which event: pools, singletons, broadcasts, patterns; over real sockets."""

import pytest

from tests.events.stage import Context, Notes, Orders, until
from zmqservices.containers import ServiceContainer
from zmqservices.events import BROADCAST, SERVICE_POOL, SINGLETON, EventHandler, EventHandlerConfigurationError, event_handler

RELIABILITY = pytest.mark.parametrize("reliable", [True, False], ids=["reliable", "best effort"])


def test_a_dispatch_right_after_start_arrives(serve, connect):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails)
    connect().orders.tell("order.paid", {"number": 17})

    assert notes.wait_for(1) == [{"number": 17}]


def test_a_best_effort_dispatch_right_after_start_arrives(serve, connect):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid", reliable_delivery=False)
        def send(self, payload):
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails)
    connect().orders.tell("order.paid", {"number": 17})

    assert notes.wait_for(1) == [{"number": 17}]


@RELIABILITY
def test_a_publisher_that_comes_later_is_heard_from_its_first_event(serve, connect, reliable):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid", reliable_delivery=reliable)
        def send(self, payload):
            self.notes_.append(payload)

    serve(Mails)
    serve(Orders)
    connect().orders.tell("order.paid", 1)

    assert notes.wait_for(1) == [1]


@RELIABILITY
def test_the_instances_of_a_service_share_the_events_of_a_pool(serve, connect, reliable):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        context = Context()

        @event_handler("orders", "order.paid", reliable_delivery=reliable)
        def send(self, payload):
            self.notes_.append((payload, id(self.context.container)))

    serve(Orders)
    serve(Mails, elsewhere=True)
    serve(Mails, elsewhere=True)
    connect().orders.tell_all("order.paid", 50)

    notes.wait_for(50)
    assert sorted(number for number, _ in notes.lines) == list(range(50))
    assert len({instance for _, instance in notes.lines}) == 2


@RELIABILITY
def test_two_methods_of_a_service_both_get_the_event(serve, connect, reliable):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid", reliable_delivery=reliable)
        def send(self, payload):
            self.notes_.append("send")

        @event_handler("orders", "order.paid", reliable_delivery=reliable)
        def archive(self, payload):
            self.notes_.append("archive")

    serve(Orders)
    serve(Mails)
    connect().orders.tell("order.paid")

    assert sorted(notes.wait_for(2)) == ["archive", "send"]


@RELIABILITY
def test_of_singletons_one_handler_of_the_whole_cluster_gets_the_event(serve, connect, reliable):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid", handler_type=SINGLETON, reliable_delivery=reliable)
        def send(self, payload):
            self.notes_.append(payload)

    class Faxes(Mails):
        name = "faxes"

    serve(Orders)
    serve(Mails)
    serve(Mails, elsewhere=True)
    serve(Faxes)
    connect().orders.tell_all("order.paid", 20)

    assert sorted(notes.wait_for(20)) == list(range(20))


def test_a_broadcast_reaches_every_instance(serve, connect):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        context = Context()

        @event_handler("orders", "order.paid", handler_type=BROADCAST, reliable_delivery=False)
        def send(self, payload):
            self.notes_.append(id(self.context.container))

    serve(Orders)
    serve(Mails)
    serve(Mails, elsewhere=True)
    connect().orders.tell("order.paid")

    assert len(set(notes.wait_for(2))) == 2


@pytest.mark.parametrize("handler_type", [BROADCAST, SERVICE_POOL])
def test_best_effort_events_with_long_names_arrive(serve, connect, handler_type):
    notes = Notes()
    long = "order." + "x" * 1000

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", long, handler_type=handler_type, reliable_delivery=False)
        def send(self, payload):
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails)
    connect().orders.tell(long, 1)

    assert notes.wait_for(1) == [1]


def test_a_reliable_broadcast_needs_an_identifier_of_its_own(cluster_config):
    class Mails:
        name = "mails"

        @event_handler("orders", "order.paid", handler_type=BROADCAST)
        def send(self, payload):
            pass

    with pytest.raises(EventHandlerConfigurationError, match="broadcast_identifier"):
        ServiceContainer(Mails, cluster_config)


def test_with_an_identifier_a_broadcast_is_kept_for_an_instance_that_is_away(serve, connect):
    notes = Notes()

    class NamedHandler(EventHandler):
        broadcast_identifier = "host-1"

    class Mails:
        name = "mails"
        notes_ = notes

        @NamedHandler.decorator("orders", "order.paid", handler_type=BROADCAST)
        def send(self, payload):
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails).stop()
    connect().orders.tell("order.paid", 1)
    serve(Mails)

    assert notes.wait_for(1) == [1]


@RELIABILITY
@pytest.mark.parametrize("pattern", ["order.*", "order.#", "#", "*.paid", "order.paid"])
def test_the_type_is_a_pattern_of_topics(serve, connect, pattern, reliable):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", pattern, reliable_delivery=reliable)
        def send(self, payload):
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails)
    orders = connect().orders
    for type_ in ("order", "orders.paid", "order.paid.twice"):
        orders.tell(type_, type_)
    orders.tell("order.paid", "order.paid")

    until(lambda: "order.paid" in notes.lines)
    expected = {"order.#": {"order", "order.paid.twice"}, "#": {"order", "orders.paid", "order.paid.twice"}}
    more = expected.get(pattern, {"orders.paid"} if pattern == "*.paid" else set())
    assert set(notes.lines) == {"order.paid", *more}


def test_handlers_of_another_source_hear_nothing(serve, connect):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("bills", "#")
        def other(self, payload):
            self.notes_.append("wrong")

        @event_handler("orders", "#")
        def right(self, payload):
            self.notes_.append("right")

    class Bills(Orders):
        name = "bills"

    serve(Orders)
    serve(Bills)
    serve(Mails)
    connect().orders.tell("order.paid")

    assert notes.wait_for(1) == ["right"]
