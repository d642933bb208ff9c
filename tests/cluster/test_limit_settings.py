"""Limits that an operator may set. Requests within a limit pass; others are refused with a clear text."""

import pytest

from discovery.exceptions import DirectoryError
from discovery.security.zap import LATER, OK, HandshakePace, verdict
from discovery.server.table import Table
from tests.discovery.stage import record
from tests.stage import until
from zmqservices.cluster.limit_settings import LimitSettings
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import ConfigurationError, Overloaded, RemoteUnavailable
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy

#: Setting, where it is kept, default.
LIMITS = [
    ("max_clients", lambda found: found.limits.max_clients, 10_000),
    ("max_calls_per_client", lambda found: found.limits.max_calls_per_client, None),
    ("max_unread_bytes", lambda found: found.limits.max_unread_bytes, 128 * 1024 * 1024),
    ("max_faults_per_second", lambda found: found.limits.max_faults_per_second, 20),
    ("max_headers", lambda found: found.limits.headers.most, 4096),
    ("max_headers_size", lambda found: found.limits.headers.size, 64 * 1024),
    ("handshakes_per_second", lambda found: found.sockets.handshakes_per_second, 500),
    ("events_max_subscriptions", lambda found: found.events.max_subscriptions, 1_000),
    ("events_max_groups", lambda found: found.events.max_groups, 10_000),
    ("max_message_size", lambda found: found.sockets.max_message_size, 64 * 1024 * 1024),
]


@pytest.mark.parametrize(("name", "kept", "default"), LIMITS)
def test_a_limit_has_a_default_and_takes_a_whole_number(name, kept, default):
    assert kept(Settings.read({})) == default
    assert kept(Settings.read({name: 7})) == 7
    for wrong, mend in (("many", "a whole number is needed"), (True, "a whole number is needed"), (0, "it must be 1 or more")):
        with pytest.raises(ConfigurationError, match=f"{name} is {wrong!r}; {mend}"):
            Settings.read({name: wrong})


def test_a_message_before_the_hello_has_a_limit_that_leaves_room_for_a_certificate():
    assert Settings.read({}).limits.max_hello_size == 65_536
    assert Settings.read({"max_hello_size": 2048}).limits.max_hello_size == 2048
    with pytest.raises(ConfigurationError, match="max_hello_size is 2047; it must be 2048 or more"):
        Settings.read({"max_hello_size": 2047})


def test_the_time_for_a_hello_has_a_default_and_takes_a_number_of_seconds():
    assert Settings.read({}).sockets.hello_timeout == 300.0
    assert Settings.read({"hello_timeout": 1.5}).sockets.hello_timeout == 1.5
    for wrong, mend in (("long", "a number is needed"), (0, "it must be 1 or more")):
        with pytest.raises(ConfigurationError, match=f"hello_timeout is {wrong!r}; {mend}"):
            Settings.read({"hello_timeout": wrong})


def test_handshakes_beyond_the_rate_are_refused_for_now():
    request = [b"1.0", b"1", b"zmqservices", b"127.0.0.1", b"", b"CURVE", bytes(32)]
    pace = HandshakePace(2, 3, 0.0)

    assert [verdict(request, pace, 0.0)[0] for _ in range(4)] == [OK, OK, OK, LATER]
    assert [verdict(request, pace, 1.0)[0] for _ in range(3)] == [OK, OK, LATER]


def test_records_beyond_the_limit_of_one_connection_are_refused():
    table = Table(0.0, max_leases=10, max_leases_of_holder=2)
    for name in ("a", "b"):
        table.register(record(name), 0.0, holder=b"one")

    with pytest.raises(DirectoryError, match="one connection may hold 2 leases; this would be one more"):
        table.register(record("c"), 0.0, holder=b"one")
    table.register(record("c"), 0.0, holder=b"two")


def test_records_beyond_the_limit_of_the_registry_are_refused():
    table = Table(0.0, max_leases=2)
    for name in ("a", "b"):
        table.register(record(name), 0.0, holder=name.encode())

    with pytest.raises(DirectoryError, match="this registry is full: it holds 2 leases"):
        table.register(record("c"), 0.0, holder=b"c")


def test_unread_bytes_of_a_client_are_bounded_by_the_setting():
    from zmqservices.cluster.calls.send_queue import QueuedTotal, SendQueue

    total = QueuedTotal(1000)
    one, two, three = SendQueue(total), SendQueue(total), SendQueue(total)
    one.add(bytes(800))
    assert not one.is_too_long
    one.add(bytes(200))
    assert one.is_too_long and not total.is_too_much
    two.add(bytes(500))
    three.add(bytes(500))
    assert total.is_too_much


class Slow:
    name = "slow"

    @rpc
    def add(self, a, b):
        return a + b

    @rpc
    def wait(self):
        self.gate.wait()

    gate = None


@pytest.fixture
def slow(container_factory, cluster_config):
    from gevent.event import Event

    Slow.gate = Event()

    def slow(**settings):
        container = container_factory(Slow, {**cluster_config, **settings})
        container.start()
        return container

    yield slow
    Slow.gate.set()


def test_calls_beyond_the_limit_of_one_client_are_overload(slow, cluster_config):
    slow(max_calls_per_client=2)

    with ServiceRpcProxy("slow", cluster_config) as client:
        first, second = client.wait.call_async(), client.wait.call_async()
        with pytest.raises(Overloaded, match="this client has 2 open calls here; max_calls_per_client is 2"):
            client.add.with_timeout(1.0)(2, 3)
        with ServiceRpcProxy("slow", cluster_config) as other:
            assert other.add(2, 3) == 5
        Slow.gate.set()
        first.result()
        second.result()
        assert client.add(2, 3) == 5


def works(client):
    try:
        return client.add(2, 3) == 5
    except RemoteUnavailable:
        return False


def test_clients_beyond_the_limit_of_a_server_are_refused(slow, cluster_config):
    slow(max_clients=1)
    config = {**cluster_config, "rpc_wait_for_service": 0.3}

    with ServiceRpcProxy("slow", config) as client, ServiceRpcProxy("slow", config) as other:
        until(lambda: works(client))
        with pytest.raises(RemoteUnavailable, match="overloaded: this node has 1 clients, which is its max_clients"):
            other.add(2, 3)
        assert client.add(2, 3) == 5

    def has_room():
        with ServiceRpcProxy("slow", config) as later:
            return works(later)

    until(has_room, 20)


def test_without_a_bound_nothing_is_counted():
    assert LimitSettings() == LimitSettings.read({})
