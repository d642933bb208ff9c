"""A registry ends connections over which nobody makes a valid request in time, and no others."""

from contextlib import ExitStack, closing

import pytest
import zmq

from discovery import open_directory, protocol, sockets
from discovery.interest import service_key
from discovery.server.connections import RegistryConnections
from discovery.server.limits import RegistryLimits
from tests.discovery.stage import RawClient, eventually, record, start_registry
from tests.zmtp import GREETING, connect, frame, has_ended, ready

MOST_NAMES = 2_000


@pytest.fixture
def registry():
    server = start_registry(ttl=1.0, limits=RegistryLimits(hello_timeout=1, max_watched_names=MOST_NAMES))
    yield server
    server.stop()


def dealer(registry, *parts):
    """A connection by hand."""
    return connect(registry.url, GREETING + ready(b"DEALER") + b"".join(parts))


def subscribe(*services):
    return protocol.Subscribe("default", [service_key(one) for one in services], True)


JUNK = {
    "nothing": [],
    "junk": [frame(b"junk") * 5],
    "an invalid request": [frame(protocol.encode(protocol.Ack(1)))],
    "only signs of life": [frame(protocol.encode(protocol.Renew([]))), frame(protocol.encode(protocol.Read(7)))],
    "a message without an end": [frame(b"x", more=True)],
}


def test_connections_without_a_valid_request_are_ended_and_clients_are_not(registry, caplog):
    with RawClient(registry.url) as watching, RawClient(registry.url) as holding, ExitStack() as stack:
        watching.socket.reconnect_ivl = holding.socket.reconnect_ivl = -1
        watching.ask(subscribe("maths"))
        holding.ask(protocol.Register(1, record("one")))
        silent = {what: stack.enter_context(closing(dealer(registry, *parts))) for what, parts in JUNK.items()}

        eventually(lambda: all(map(has_ended, silent.values())))

        # Neither client has said anything since.
        assert watching.socket.poll(20_000)
        assert holding.ask(protocol.Register(2, record("two"))) == protocol.Ack(2)
        assert {len(registry._connections._connections), registry._connections._connections.silent} == {2, 0}
    eventually(lambda: "connection(s) to tcp://127.0.0.1" in caplog.text)
    assert "within 1 s (hello_timeout); the last was from 127.0.0.1" in caplog.text


def test_a_client_of_the_directory_keeps_its_connection(registry, caplog):
    with open_directory(registry.url) as directory, closing(dealer(registry)) as silent:
        assert directory.wait_ready(20)
        eventually(lambda: has_ended(silent))

        assert directory.view().fresh
        assert len(registry._feed.subscribers) == 1


def test_a_client_whose_request_is_read_after_the_end_of_its_connection_may_come_again(monkeypatch):
    events = [(sockets.ACCEPTED, 7), (sockets.DISCONNECTED, 7)]
    monkeypatch.setattr(sockets, "server_monitor_of", lambda socket: None)
    monkeypatch.setattr(sockets, "monitored", lambda monitor: events.pop(0) if events else None)
    monkeypatch.setattr(sockets, "descriptor_of", lambda descriptor: descriptor)
    monkeypatch.setattr("discovery.server.connections.inode_of", lambda descriptor: 700)
    connections = RegistryConnections(None, "tcp://127.0.0.1:4190", timeout=10.0, is_encrypted=False)
    connections.show(b"client", 7, now=0.0)

    events.append((sockets.ACCEPTED, 8))
    connections.show(b"client", 8, now=1.0)
    connections.read(now=1.0)

    assert len(connections._connections) == 1
    assert connections._connections.silent == 0


def test_a_client_that_is_refused_is_let_go(registry):
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger, client.reconnect_ivl = 0, -1
        events = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        client.connect(registry.url)
        client.send(protocol.encode(subscribe("maths")))
        client.send(protocol.encode(protocol.Extend(1, [service_key(f"service-{number}") for number in range(MOST_NAMES)])))

        assert events.poll(20_000)
        client.disable_monitor()
        events.close()
