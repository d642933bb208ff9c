"""A publisher and a listener talk over real sockets; one suite over both reactors."""

from __future__ import annotations

import os
import time
from contextlib import closing
from time import monotonic, thread_time

import gevent
import pytest

from tests.zmtp import GREETING, connect, frame, has_ended, ready, shake_hands
from zmqservices.exceptions import ConfigurationError
from zmqservices.transport import (
    BroadcastPublisher,
    BroadcastSubscriber,
    SocketOptions,
    Sockets,
    broadcast_connections,
)
from zmqservices.transport import broadcast as module
from zmqservices.transport import sockets as sockets_module
from zmqservices.transport.blocking import BlockingReactor
from zmqservices.transport.hub import HubReactor
from zmqservices.transport.reactor import Completion
from zmqservices.transport.sockets import HIGH_WATER_MARK, LONGEST_SUBSCRIPTION


class Crowd:
    """Listens to both ends, and writes down what it is told."""

    def __init__(self):
        self.tunings = []
        self.frames = []
        self.on_batch = lambda: None

    def on_subscription(self, topic, is_on):
        self.tunings.append((topic, is_on))

    def on_broadcast(self, frame, payload):
        self.frames.append((frame, payload))

    def on_batch_end(self):
        self.on_batch()


@pytest.fixture(params=[HubReactor, BlockingReactor])
def reactor(request):
    reactor = request.param()
    yield reactor
    reactor.close()


@pytest.fixture
def sockets():
    sockets = Sockets(SocketOptions())
    yield sockets
    sockets.close()


@pytest.fixture
def crowd():
    return Crowd()


@pytest.fixture
def broadcast(reactor, sockets, crowd):
    broadcast = reactor.run(BroadcastPublisher, reactor, sockets, "tcp://127.0.0.1:0", crowd)
    yield broadcast
    reactor.run(broadcast.close)


@pytest.fixture
def broadcasts(reactor, sockets, crowd, broadcast):
    broadcasts = reactor.run(BroadcastSubscriber, reactor, sockets, crowd)
    yield broadcasts
    reactor.run(broadcasts.close)


@pytest.fixture
def until(reactor):
    def until(claim, timeout=30.0):
        end = monotonic() + timeout
        while not claim():
            assert monotonic() < end, "it did not come true"
            if isinstance(reactor, HubReactor):
                gevent.sleep(0.001)
            else:
                completion = Completion()
                reactor.run(reactor.call_later, 0.005, setattr, completion, "stage", 1)
                reactor.park(completion, 1)

    return until


def test_the_publisher_is_told_of_subscriptions_and_listeners_get_its_messages(reactor, broadcast, broadcasts, crowd, until):
    reactor.run(broadcasts.subscribe, b"a\0")
    reactor.run(broadcasts.connect, broadcast.endpoint)
    until(lambda: crowd.tunings == [(b"a\0", True)])

    reactor.run(broadcast.send, b"a\0", b"one")
    reactor.run(broadcast.send, b"ab\0", b"not for us")
    reactor.run(broadcast.send, b"a\0", b"two")

    until(lambda: len(crowd.frames) == 2)
    assert crowd.frames == [(b"a\0one", None), (b"a\0two", None)]


def test_every_listener_of_a_topic_is_told_of(reactor, sockets, broadcast, broadcasts, crowd, until):
    other = reactor.run(BroadcastSubscriber, reactor, sockets, Crowd())
    for each in (broadcasts, other):
        reactor.run(each.subscribe, b"a\0")
        reactor.run(each.connect, broadcast.endpoint)
    until(lambda: crowd.tunings == [(b"a\0", True)] * 2)

    reactor.run(other.close)

    until(lambda: crowd.tunings[2:] == [(b"a\0", False)])


def test_a_payload_follows_in_a_frame_of_its_own(reactor, broadcast, broadcasts, crowd, until, monkeypatch):
    noted = []
    monkeypatch.setattr(module, "note_large_message", lambda: noted.append(len(crowd.frames)))
    reactor.run(broadcasts.subscribe, b"a\0")
    reactor.run(broadcasts.connect, broadcast.endpoint)
    until(lambda: crowd.tunings)

    reactor.run(broadcast.send, b"a\0", (b"body", b"payload"))
    assert noted == [0], "it was taken notice of when it was sent"
    reactor.run(broadcast.send, b"a\0", b"next")

    until(lambda: len(crowd.frames) == 2)
    assert crowd.frames == [(b"a\0body", b"payload"), (b"a\0next", None)]
    assert noted == [0, 0], "and when it came"


def test_nothing_is_read_during_a_pause_and_nothing_is_lost_by_it(reactor, broadcast, broadcasts, crowd, until):
    reactor.run(broadcasts.subscribe, b"a\0")
    reactor.run(broadcasts.connect, broadcast.endpoint)
    until(lambda: crowd.tunings)
    crowd.on_batch = lambda: broadcasts.pause() if len(crowd.frames) == 1 else None

    reactor.run(broadcast.send, b"a\0", b"0")
    until(lambda: len(crowd.frames) == 1)
    for number in range(1, 1000):
        reactor.run(broadcast.send, b"a\0", b"%d" % number)
    assert len(crowd.frames) == 1
    reactor.run(broadcasts.resume)

    until(lambda: len(crowd.frames) == 1000)
    assert [frame for frame, _ in crowd.frames] == [b"a\0%d" % number for number in range(1000)]


def test_an_address_that_cannot_be_bound_is_named(reactor, sockets, broadcast, crowd):
    with pytest.raises(ConfigurationError, match="cannot bind"):
        reactor.run(BroadcastPublisher, reactor, sockets, broadcast.endpoint, crowd)


def subscriber_by_hand(endpoint, topic):
    """A connection that speaks ZMTP by hand, and subscribes."""
    raw = connect(endpoint, GREETING + ready(b"SUB"))
    try:
        shake_hands(raw)
    except ConnectionError:  # The machine was too busy for the handshake to be in time.
        raw.close()
        return subscriber_by_hand(endpoint, topic)
    try:
        raw.sendall(frame(b"\1" + topic))
    except OSError:
        pass  # It was thrown out before it had said all.
    return raw


@pytest.mark.parametrize("size", [LONGEST_SUBSCRIPTION + 1, 10 * 1024 * 1024])
def test_a_topic_that_is_too_long_costs_its_connection(crowd, broadcast, until, size):
    with closing(subscriber_by_hand(broadcast.endpoint, b"B\0orders\0")) as honest:
        with closing(subscriber_by_hand(broadcast.endpoint, b"x" * size)) as stranger:
            until(lambda: has_ended(stranger))

        until(lambda: crowd.tunings)
        assert not has_ended(honest)
    assert (b"B\0orders\0", True) in crowd.tunings
    assert not any(len(topic) >= size for topic, _ in crowd.tunings)


@pytest.fixture
def long_topics(monkeypatch):
    """Topics may be long enough for their walks to be measured."""
    monkeypatch.setattr(sockets_module, "LONGEST_SUBSCRIPTION", 512)


def test_connections_that_end_with_long_topics_take_none_of_the_reactors_time(long_topics, crowd, broadcast, until):
    # In the reactor's own thread the last step took 2 s: ZeroMQ walks through all topics for each end of a connection.
    topics = [os.urandom(500) for _ in range(200)]
    strangers = [subscriber_by_hand(broadcast.endpoint, topic) for topic in topics]
    until(lambda: sorted(crowd.tunings) == sorted((topic, True) for topic in topics))
    began = thread_time()

    for stranger in strangers:
        stranger.close()

    until(lambda: len(crowd.tunings) == 400, timeout=30.0)
    assert {topic for topic, is_on in crowd.tunings if not is_on} == set(topics)
    assert thread_time() - began < 0.5


def test_broadcasts_that_have_no_room_are_told_to_their_sender(reactor, sockets, crowd, monkeypatch):
    monkeypatch.setattr(module, "_relay", lambda *sockets: stuck.append(sockets))
    monkeypatch.setattr(module, "start_thread", lambda run: run())
    stuck = []
    broadcast = reactor.run(BroadcastPublisher, reactor, sockets, "tcp://127.0.0.1:0", crowd)

    sent = [reactor.run(broadcast.send, b"a\0", b"x") for _ in range(2 * HIGH_WATER_MARK + 1)]

    assert sent == [True] * 2 * HIGH_WATER_MARK + [False]
    reactor.run(broadcast.close)
    for end in stuck[0]:
        end.close()


# --- connections that use up descriptors --------------------------------------------------------------------------------


def test_the_oldest_connections_of_the_host_with_the_most_are_too_many():
    hosts = {1: "10.0.0.1", 2: "10.0.0.2", 3: "10.0.0.1", 4: "10.0.0.3", 5: "10.0.0.1", 6: "10.0.0.2"}

    assert broadcast_connections.crowded(hosts, 0) == []
    assert broadcast_connections.crowded(hosts, 1) == [1]
    assert broadcast_connections.crowded(hosts, 3) in ([1, 2, 3], [1, 3, 2])
    assert sorted(broadcast_connections.crowded(hosts, 9)) == [1, 2, 3, 4, 5, 6]


def test_a_crowd_of_very_many_hosts_is_sorted_out_quickly():
    hosts = {number: str(number) for number in range(30_000)}
    began = time.process_time()

    assert broadcast_connections.crowded(hosts, 15_000) == list(range(15_000))

    assert time.process_time() - began < 2.0, "it took a step for each pair of a connection and a host"


def test_connections_beyond_half_of_the_descriptors_are_ended(reactor, sockets, crowd, until, monkeypatch, caplog):
    monkeypatch.setattr(broadcast_connections, "share_of_descriptors", lambda part: 3)
    monkeypatch.setattr(broadcast_connections, "LOOK_INTERVAL", 0.05)
    broadcast = reactor.run(BroadcastPublisher, reactor, sockets, "tcp://127.0.0.1:0", crowd)
    opened = []
    try:
        for _ in range(5):
            opened.append(connect(broadcast.endpoint, GREETING + ready(b"SUB")))

        until(lambda: sum(map(has_ended, opened)) == 2)

        assert "ended 2 connection(s)" in caplog.text and "the last one of 127.0.0.1: there may be 3, half of" in caplog.text
    finally:
        for one in opened:
            one.close()
        reactor.run(broadcast.close)
