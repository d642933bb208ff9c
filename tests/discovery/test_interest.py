"""Interest: clients ask for some services, and see those as the registry holds them, whatever happens on the way."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from discovery import DirectoryError, interest, open_directory, protocol
from discovery.interest import EVERYTHING, grown, keys, keys_of, wants
from discovery.packing import pack
from discovery.server.audience import Audience
from tests.at_random import examples
from tests.discovery.loopback import Client, Clock, Registry, settle
from tests.discovery.stage import record


def subscribed(*sources):
    return [{"source": source, "group": "g"} for source in sources]


# --- keys ---


def test_a_record_is_found_by_its_service_and_by_the_sources_that_it_subscribes_to():
    handler = record("one", "mails", subscriptions=[*subscribed("orders", "users"), {"source": 7}, "junk"])

    assert keys_of(handler) == ("service:mails", "subscribers:orders", "subscribers:users")


@pytest.mark.parametrize(
    ("wanted", "is_wanted"),
    [
        (EVERYTHING, True),
        (keys(["mails"]), True),
        (keys([], ["orders"]), True),
        (keys(["orders"], ["mails"]), False),
        (keys(), False),
    ],
)
def test_an_interest_has_a_record_that_is_found_by_one_of_its_keys(wanted, is_wanted):
    assert wants(wanted, record("one", "mails", subscriptions=subscribed("orders"))) is is_wanted


def test_an_interest_in_too_many_names_becomes_interest_in_everything(monkeypatch):
    monkeypatch.setattr(interest, "MAX_INTEREST", 2)

    assert grown(keys(["a"]), keys(["b"])) == keys(["a", "b"])
    assert grown(keys(["a", "b"]), keys(["c"])) is EVERYTHING


@pytest.mark.parametrize(
    ("services", "words"),
    [
        ("maths", r"services are 'maths'; a list of names is needed, such as \['maths'\]"),
        (["x" * 256], "a name has 1 to 255 characters"),
        ([""], "a name has 1 to 255 characters"),
    ],
)
def test_an_invalid_name_is_reported(services, words):
    with pytest.raises(DirectoryError, match=words):
        open_directory("tcp://127.0.0.1:9", services=services)


def test_a_record_of_too_many_sources_is_refused_with_a_reason():
    registry = Registry(Clock())

    with pytest.raises(DirectoryError, match="events of 1000 sources; 'one' subscribes to more"):
        registry.register(record(subscriptions=subscribed(*map(str, range(1001)))))


# --- who is told of what ---


def test_only_interested_clients_get_a_change():
    audience = Audience()
    for number in range(1000):
        audience.add(b"%d" % number, "default", keys([f"service-{number % 100}"]))
    audience.add(b"all", None, EVERYTHING)

    assert set(audience.of("default", ["service:service-7"])) == {b"all", *(b"%d" % number for number in range(7, 1000, 100))}
    assert audience.of("other", ["service:service-7"]) == [b"all"]


def test_nothing_is_kept_of_a_subscriber_that_left():
    audience = Audience()
    audience.add(b"a", "default", keys(["maths"]))
    audience.extend(b"a", keys(["words"], ["orders"]))
    audience.add(b"b", None, EVERYTHING)

    audience.remove(b"a")
    audience.remove(b"b")
    audience.remove(b"b")

    assert audience.keys == 0 and not (audience._of_key or audience._of_all or audience._subscriptions)


def test_many_joins_do_not_keep_a_renewal_waiting():
    clock = Clock()
    registry = Registry(clock)
    for number in range(500):
        registry.register(record(f"i{number}", tags={"text": "x" * 1000}))
    clients = [Client(registry, EVERYTHING) for _ in range(10)]
    for client in clients:
        client.transmit()

    registry.feed.take_turns(0.0)

    # One part of one snapshot was sent, and the registry may read what came meanwhile.
    assert sum(len(client.inbox) for client in clients) <= 2
    assert registry.feed.has_turns
    settle(registry)
    assert all(len(client.records) == 500 for client in clients)


def test_a_client_whose_snapshot_comes_late_waits_for_it_while_the_registry_is_alive():
    clock = Clock()
    registry = Registry(clock)
    registry.register(record("one"))
    client = Client(registry, EVERYTHING)
    client.transmit()

    for _ in range(10):
        clock.now += 1.0
        registry.feed.heartbeat(False)
        while client.receive():
            pass
        client.connection.check(clock.now)

    assert client.is_connected and not client.records
    settle(registry)
    assert set(client.records) == {"one"}


def test_a_client_gives_up_a_silent_registry():
    clock = Clock()
    client = Client(Registry(clock), EVERYTHING)

    clock.now += 3.1
    client.connection.check(clock.now)

    assert "does not answer as a registry does" in client.connection.error


def test_a_record_is_encoded_once_for_all_its_receivers(monkeypatch):
    registry = Registry(Clock())
    packed = []
    for module in ("server.lease_store", "protocol.codec", "protocol.packed", "record_blocks"):
        monkeypatch.setattr(f"discovery.{module}.pack", lambda value: packed.append(type(value)) or pack(value))
    registry.register(record("one", "maths"))

    for _ in range(10):
        Client(registry, keys(["maths"]))
    settle(registry)
    for _ in range(10):
        Client(registry, EVERYTHING)
    settle(registry)

    assert packed.count(dict) == 1


# --- old and new ---


class OldRegistry(Registry):
    """It does not know of interests: it takes every SUBSCRIBE for one of everything, and says nothing of limits."""

    def take(self, peer, frame):
        message = protocol.decode(frame)
        assert not isinstance(message, protocol.Extend), "an earlier release closes the connection at this"
        if isinstance(message, protocol.Subscribe):
            frame = protocol.encode(protocol.Subscribe(message.namespace))
        super().take(peer, frame)


def test_with_an_old_registry_a_client_shows_only_its_interest_and_extends_it_at_once():
    registry = OldRegistry(Clock())
    for name in ("maths", "words"):
        registry.register(record(name, name))
    client = Client(registry, keys(["maths"]))
    settle(registry)
    assert set(client.records) == {"maths"}

    client.want(keys(["words"]))

    assert set(client.records) == {"maths", "words"}
    settle(registry)


def test_an_old_client_gets_everything():
    registry = Registry(Clock())
    registry.register(record("one", "maths"))
    client = Client(registry, EVERYTHING)
    client.outbox.clear()
    client.outbox.append(protocol.pack([protocol.VERSION, protocol.Subscribe.KIND, "default"]))

    settle(registry)

    assert set(client.records) == {"one"}


# --- whatever happens on the way ---

INSTANCES = st.sampled_from(["one", "two", "three", "four", "five", "six"])
SERVICES = st.sampled_from(["maths", "words", "mails"])
SOURCES = st.lists(st.sampled_from(["orders", "users"]), max_size=2, unique=True)
KEYS = st.sampled_from(sorted(keys(["maths", "words", "mails"], ["orders", "users"])))


class Interested(RuleBasedStateMachine):
    """A registry and three clients. Frames arrive one by one, or when a connection is lost not at all."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.registry = Registry(self.clock, ttl=5.0)
        self.clients = [Client(self.registry, interest, room=3) for interest in (keys(), keys(["maths"]), EVERYTHING)]
        self.versions = 0
        self.held = {}

    numbers = st.integers(0, 2)

    @rule(instance=INSTANCES, service=SERVICES, sources=SOURCES)
    def register(self, instance, service, sources):
        self.versions += 1
        new = record(instance, service, version=self.versions, subscriptions=subscribed(*sources), ttl=1000.0)
        self.registry.register(new)
        self.held[instance] = new

    @rule(instance=INSTANCES)
    def withdraw(self, instance):
        if instance in self.held:
            self.registry.withdraw(self.held.pop(instance))

    @rule(number=st.integers(0, 1), key=KEYS)
    def want(self, number, key):
        self.clients[number].want([key])

    @rule(number=numbers, count=st.integers(1, 4))
    def transmit(self, number, count):
        for _ in range(count):
            self.clients[number].transmit()

    @rule(number=numbers, count=st.integers(1, 6))
    def receive(self, number, count):
        for _ in range(count):
            self.clients[number].receive()

    @rule()
    def take_turns(self):
        self.registry.feed.take_turns(0.0)

    @rule(number=numbers)
    @precondition(lambda self: any(client.is_connected for client in self.clients))
    def lose_connection(self, number):
        if self.clients[number].is_connected:
            self.clients[number].lose_connection()

    @rule(seconds=st.floats(0.1, 4.0))
    def wait(self, seconds):
        self.clock.now += seconds
        for client in self.clients:
            client.work()
        self.registry.feed.heartbeat(self.registry.table.is_warming(self.clock.now))

    @rule()
    def come_to_rest(self):
        # Past the warm-up and past the longest pause between attempts, with heartbeats that find what waits. After each of them
        # there is room for two changes or so, and each instance and each note may have changed.
        self.clock.now += 20.0
        for _ in range(10):
            for client in self.clients:
                client.work()
            self.registry.feed.heartbeat(self.registry.table.is_warming(self.clock.now))
            settle(self.registry)
        for client in self.clients:
            wanted = client.state.interest
            assert client.records == {key: one for key, one in self.held.items() if wants(wanted, one)}
            assert interest.covers(client.state.answered, wanted)

    @invariant()
    def nothing_else_is_shown_and_no_number_is_left_out(self):
        for client in self.clients:
            assert client.connection.gaps == 0
            assert all(wants(client.state.interest, one) for one in client.records.values())

    @invariant()
    def the_index_of_subscribers_is_that_of_the_connections(self):
        audience, subscribers = self.registry.feed._audience, self.registry.feed.subscribers
        assert audience._subscriptions.keys() == subscribers.keys()
        assert all(audience._subscriptions[peer][1] == one.interest for peer, one in subscribers.items())


Interested.TestCase.settings = settings(max_examples=examples(30), stateful_step_count=30, deadline=None)
TestInterested = Interested.TestCase
