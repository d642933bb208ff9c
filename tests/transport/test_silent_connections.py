"""A connection over which nobody becomes a client is ended, and no other; over real sockets."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import closing
from time import monotonic

import gevent
import pytest
import zmq

from tests.cluster.calls.world import FakeReactor
from tests.stage import until
from tests.zmtp import GREETING, connect, frame, has_ended, ready
from zmqservices.transport import DealerLink, RouterSocket, SocketOptions, Sockets
from zmqservices.transport import silent_connections as module
from zmqservices.transport.hub import HubReactor
from zmqservices.transport.reactor import DRAIN_QUOTA
from zmqservices.transport.silent_connections import SilentConnections

TIMEOUT = 0.6


class Greeter:
    """Listens at a RouterSocket. Whoever says b"hello" is a client, until it says b"bye"."""

    def __init__(self):
        self.bodies = []
        self.greeted = set()
        self.router = None

    def on_connect(self, routing_id, address):
        return routing_id

    def on_message(self, routing_id, body):
        self.bodies.append(body)
        if body == b"hello":
            if routing_id in self.greeted:
                self.router.greeted_again(routing_id)
            else:
                self.router.greeted(routing_id)
            self.greeted.add(routing_id)
        elif body == b"ping":
            self.router.heard(routing_id)
        elif body == b"bye":
            self.router.forget(routing_id)

    def on_batch_end(self):
        pass

    def on_disconnect(self):
        pass

    def refuse_routing_id(self, routing_id, address):
        pass


@pytest.fixture
def reactor():
    reactor = HubReactor()
    yield reactor
    reactor.close()


@pytest.fixture
def sockets():
    sockets = Sockets(SocketOptions(hello_timeout=TIMEOUT))
    yield sockets
    sockets.close()


@pytest.fixture
def greeter(reactor, sockets):
    greeter = Greeter()
    greeter.router = RouterSocket(reactor, sockets, "tcp://127.0.0.1:0", greeter)
    yield greeter
    greeter.router.close()


class Caller:
    def __init__(self):
        self.told = []

    def on_connect(self):
        self.told.append("connected")

    def on_disconnect(self):
        self.told.append("lost")

    def unreachable(self, why=""):
        pass

    def on_message(self, body):
        pass

    def on_batch_end(self):
        pass


@pytest.fixture
def link(reactor, sockets, greeter):
    """`link()`: a connected link to the router, and what it was told."""
    links = []

    def link():
        caller = Caller()
        link = DealerLink(reactor, sockets, greeter.router.endpoint, caller)
        links.append(link)
        until(lambda: caller.told == ["connected"])
        return link, caller

    yield link
    for one in links:
        one.close()


@pytest.fixture
def raw(greeter):
    """`raw()`: a connection by hand that has said what it is."""
    opened = []

    def raw():
        opened.append(connect(greeter.router.endpoint, GREETING + ready(b"DEALER")))
        return opened[-1]

    yield raw
    for one in opened:
        one.close()


def say(link, *bodies):
    for body in bodies:
        until(lambda body=body: link.send(body))


def wait_for_looks(greeter, count):
    """Wait until silent connections were looked for so many times; at least one must be silent."""
    silent = greeter.router._silent._connections
    end = silent._looks + count
    until(lambda: silent._looks >= end)


def test_a_silent_connection_is_ended_and_that_of_a_client_is_not(greeter, link, raw, caplog):
    caplog.set_level(logging.INFO, logger=module.__name__)
    client, caller = link()
    say(client, b"hello")
    silent = [raw() for _ in range(3)]

    until(lambda: all(map(has_ended, silent)))

    assert caller.told == ["connected"]
    say(client, b"more")
    until(lambda: b"more" in greeter.bodies)
    [line] = [record.getMessage() for record in caplog.records if "ended 1 connection(s)" in record.getMessage()]
    assert "within 0.6 s (hello_timeout); the last was from 127.0.0.1" in line


@pytest.mark.parametrize("junk", [frame(b"junk"), frame(b"PING before HELLO") * 3, frame(b"\4PING\0\0", command=True)])
def test_junk_keeps_no_connection(greeter, raw, junk):
    junky = raw()
    junky.send(junk)

    until(lambda: has_ended(junky))


def test_a_link_that_is_not_greeted_is_ended_and_connects_again(greeter, link):
    silent, caller = link()

    until(lambda: len(caller.told) > 2)

    assert caller.told[:3] == ["connected", "lost", "connected"]
    say(silent, b"hello")
    until(lambda: greeter.bodies == [b"hello"])


def test_who_is_no_client_any_more_is_let_go(greeter, link):
    former, caller = link()
    say(former, b"hello", b"bye")

    until(lambda: "lost" in caller.told)


def test_a_sign_of_life_keeps_a_connection(greeter, link, raw):
    probe, caller = link()
    end = monotonic() + 3 * TIMEOUT
    while monotonic() < end:
        say(probe, b"ping")
        gevent.sleep(TIMEOUT / 8)

    assert caller.told == ["connected"]
    until(lambda: "lost" in caller.told)


def test_a_client_that_comes_again_with_its_routing_id_keeps_its_new_connection(greeter, raw):
    """The end of its former connection was not noticed yet: ZeroMQ hands the routing id over."""
    with zmq.Context() as context:
        identity = b"\1" + os.urandom(16)

        def dealer():
            found = context.socket(zmq.DEALER)
            found.linger, found.routing_id, found.reconnect_ivl = 0, identity, -1
            found.connect(greeter.router.endpoint)
            return found

        with closing(dealer()) as first:
            first.send(b"hello")
            until(lambda: greeter.bodies == [b"hello"])
            with closing(dealer()) as second:
                second.send(b"hello")
                until(lambda: greeter.bodies == [b"hello"] * 2)
                second.send(b"what tells its connection")
                until(lambda: len(greeter.bodies) == 3)
                silent = raw()
                until(lambda: has_ended(silent))
                second.send(b"more")
                until(lambda: greeter.bodies[-1] == b"more")

    assert len(greeter.router.clients) == 1


def connections_of(reactor, listener, read_events=lambda: None, drain=lambda: 0):
    return SilentConnections(reactor, f"tcp://127.0.0.1:{listener.getsockname()[1]}", 10.0, read_events, drain)


@pytest.fixture
def accepted():
    """A listening socket, and both ends of a connection to it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        with closing(socket.create_connection(listener.getsockname())) as client, closing(listener.accept()[0]) as accepted:
            client.setblocking(False)
            yield listener, client, accepted


def test_a_greeting_that_waits_in_the_socket_counts_before_its_connection_is_ended(accepted):
    """The process was busy when the greeting came."""
    listener, client, server = accepted
    reactor = FakeReactor()

    def drain():
        connections.located(b"client", server.fileno())
        connections.greeted(b"client")
        return 0

    connections = connections_of(reactor, listener, drain=drain)
    connections.accepted(server.fileno())
    reactor.wind(60.0)

    assert not has_ended(client)


@pytest.mark.parametrize(("turn", "turns"), [(DRAIN_QUOTA, 2), (16, 17)])
def test_messages_without_end_keep_no_silent_connection_and_do_not_hold_others_up(accepted, monkeypatch, turn, turns):
    """ZeroMQ hands over one message of each connection in turn, so a greeting is among the first, however short a turn is."""
    monkeypatch.setattr(module, "READING_TIME", 0.0)
    listener, client, server = accepted
    reactor = FakeReactor()
    times = []

    def drain():
        times.append(reactor.now)
        return turn

    connections = connections_of(reactor, listener, drain=drain)
    connections.accepted(server.fileno())
    reactor.wind(60.0)

    until(lambda: has_ended(client))
    assert len(times) == len(set(times)) == turns


def test_connections_that_begin_while_messages_are_read_have_as_much_time_as_others(accepted, monkeypatch):
    monkeypatch.setattr(module, "READING_TIME", 0.0)
    listener, client, server = accepted
    reactor = FakeReactor()
    looks = []

    def drain():
        looks.append(connections._connections._looks)
        connections.accepted(server.fileno())
        return DRAIN_QUOTA

    connections = connections_of(reactor, listener, drain=drain)
    connections.accepted(server.fileno())
    reactor.wind(60.0)

    assert looks and connections._connections._looks <= 60


def test_a_socket_that_is_closed_while_its_messages_are_read_ends_nothing(accepted, monkeypatch):
    monkeypatch.setattr(module, "READING_TIME", 0.0)
    listener, client, server = accepted
    reactor = FakeReactor()
    times = []

    def drain():
        times.append(reactor.now)
        connections.close()
        return DRAIN_QUOTA

    connections = connections_of(reactor, listener, drain=drain)
    connections.accepted(server.fileno())
    reactor.wind(60.0)

    assert len(times) == 1 and not has_ended(client)


def test_a_turn_that_ends_early_says_how_many_messages_it_had(greeter, link, monkeypatch):
    client, _ = link()
    say(client, b"hello")
    until(lambda: greeter.bodies)
    monkeypatch.setattr(greeter, "on_message", lambda routing_id, body: greeter.bodies.append(body) or True)
    say(client, b"one", b"another")
    counts = []
    while len(greeter.bodies) < 3:
        assert greeter.router.socket.poll(20_000)
        counts.append(greeter.router._drain_now())

    assert counts == [1, 1]


def test_a_peer_that_was_refused_and_comes_again_is_located_anew(accepted):
    listener, client, server = accepted
    reactor = FakeReactor()
    connections = connections_of(reactor, listener)
    connections.accepted(1)
    connections.located(b"peer", 1)
    assert connections.ended(1) is None
    assert connections.unlocated(1) == b"peer"

    connections.accepted(server.fileno())
    connections.located(b"peer", server.fileno())
    connections.greeted(b"peer")
    reactor.wind(60.0)

    assert not has_ended(client)
    assert connections.unlocated(1) is None
    assert connections.ended(server.fileno()) == b"peer"


def test_a_client_whose_connection_ends_while_it_is_greeted_counts_with_its_next_message(accepted):
    listener, client, server = accepted
    reactor = FakeReactor()
    reports = [1]

    def read_events():
        while reports:
            assert connections.ended(reports[0]) is None
            connections.unlocated(reports.pop())

    connections = connections_of(reactor, listener, read_events)
    connections.accepted(server.fileno())
    connections.located(b"client", 1)
    connections.greeted(b"client")
    connections.located(b"client", server.fileno())
    reactor.wind(60.0)

    assert not has_ended(client)


def test_a_greeting_that_is_read_before_the_connection_is_reported_counts(accepted):
    listener, client, server = accepted
    reactor = FakeReactor()
    reports = [server.fileno()]

    def read_events():
        while reports:
            connections.accepted(reports.pop())

    connections = connections_of(reactor, listener, read_events)
    connections.located(b"client", server.fileno())
    connections.greeted(b"client")
    read_events()
    reactor.wind(60.0)

    assert not has_ended(client)


def test_when_many_connections_are_silent_the_oldest_go_early(reactor, sockets, monkeypatch, caplog, raw):
    monkeypatch.setattr(module, "share_of_descriptors", lambda part: 3)
    monkeypatch.setattr("discovery.accepted.LEAST_TIME", 0.1)
    patient = Sockets(SocketOptions(hello_timeout=60.0))
    greeter = Greeter()
    monkeypatch.setattr("discovery.accepted.LOOK_INTERVAL", 0.05)
    greeter.router = RouterSocket(reactor, patient, "tcp://127.0.0.1:0", greeter)
    opened = []
    try:
        for _ in range(5):
            opened.append(connect(greeter.router.endpoint, GREETING + ready(b"DEALER")))
            until(lambda: len(greeter.router._silent._connections) == len(opened))
        until(lambda: has_ended(opened[0]) and has_ended(opened[1]))
        wait_for_looks(greeter, 5)

        assert [has_ended(one) for one in opened[2:]] == [False] * 3
        assert any(
            record.levelno == logging.WARNING and "while there were too many" in record.getMessage() for record in caplog.records
        )
    finally:
        for one in opened:
            one.close()
        greeter.router.close()
        patient.close()
