"""When a listener pauses for want of descriptors, by hand; and that ZeroMQ's own one can be paused, with real sockets."""

import errno
import os
import resource
import socket
import sys

import pytest
import zmq

from discovery import accepting
from discovery.accepting import CALM, CHANGED, NEAR, SPARE, TRIES, AcceptGuard, find_listener, most_descriptors


class FakeListener:
    def __init__(self):
        self.calls = []

    def listen(self, on):
        self.calls.append(on)


class Process:
    """One guard, and the descriptors that its process has free."""

    def __init__(self):
        self.free = (SPARE, 20)
        self.listener = FakeListener()
        self.warnings = []
        self.guard = AcceptGuard("tcp://127.0.0.1:4190", self.warnings.append, lambda port: self.listener, lambda: self.free)


@pytest.fixture
def process(monkeypatch):
    monkeypatch.setattr(accepting, "_warned_at", -accepting.WARN_INTERVAL)
    return Process()


def test_with_enough_descriptors_nothing_is_done_and_checks_become_rare(process):
    pauses = [process.guard.check() for _ in range(10)]

    assert process.listener.calls == []
    assert pauses == sorted(pauses)
    assert pauses[-1] == CALM


def test_without_descriptors_the_listener_pauses_until_some_are_free(process):
    process.free = (SPARE - 1, 63)
    process.guard.check()
    process.guard.check()
    assert process.listener.calls == [False]
    assert process.guard.is_paused

    process.free = (SPARE, 30)
    process.guard.check()
    assert process.listener.calls == [False, True]
    assert not process.guard.is_paused


def test_checks_become_rarer_while_nothing_changes_and_frequent_after_a_change(process):
    process.free = (0, 0)
    pauses = [process.guard.check() for _ in range(10)]
    process.free = (SPARE, 30)

    assert pauses[0] == CHANGED
    assert pauses[-1] == CALM
    assert process.guard.check() == CHANGED


def test_with_few_descriptors_left_checks_are_more_frequent(process):
    process.free = (SPARE, most_descriptors())

    assert [process.guard.check() for _ in range(10)][-1] == NEAR


def test_one_warning_a_minute_names_the_limit_and_how_to_raise_it(process):
    process.free = (0, 0)
    for _ in range(100):
        process.guard.check()

    (warning,) = process.warnings
    assert "tcp://127.0.0.1:4190" in warning
    assert str(most_descriptors()) in warning
    assert "ulimit -n" in warning and "LimitNOFILE=" in warning


def test_a_listener_that_is_not_found_is_given_up():
    guard = AcceptGuard("tcp://127.0.0.1:4190", print, lambda port: None, lambda: (0, 0))

    assert [guard.check() for _ in range(TRIES + 1)] == [*(CHANGED * 2**number for number in range(TRIES)), None]


def test_a_search_for_the_listener_that_fails_for_want_of_descriptors_is_repeated(monkeypatch):
    monkeypatch.setattr(accepting, "_warned_at", -accepting.WARN_INTERVAL)

    def find(port):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    warnings = []
    guard = AcceptGuard("tcp://127.0.0.1:4190", warnings.append, find, lambda: (0, 0))

    assert [guard.check() for _ in range(2 * TRIES)] == [NEAR] * 2 * TRIES
    assert len(warnings) == 1


def test_a_listener_that_zeromq_adds_a_little_late_is_found_before_anybody_can_connect():
    answers = [None, None, FakeListener()]

    guard = AcceptGuard("tcp://127.0.0.1:4190", print, lambda port: answers.pop(0), lambda: (0, 0))

    assert answers == []
    guard.check()
    assert guard.is_paused


def test_a_closed_listener_and_the_listener_of_a_fork_are_not_touched(process, monkeypatch):
    process.free = (0, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        assert process.guard.check() is None
    process.guard.close()

    assert process.guard.check() is None
    assert process.listener.calls == []


def test_the_soft_limit_is_raised_to_the_hard_one_and_never_lowered(monkeypatch):
    told = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: told.append(limits))
    for limits in [(1024, 4096), (1024, 1_000_000), (1024, resource.RLIM_INFINITY), (4096, 4096), (100_000, 200_000)]:
        monkeypatch.setattr(resource, "getrlimit", lambda which, limits=limits: limits)
        accepting.raise_soft_limit()

    assert told == [(4096, 4096), (65_536, 1_000_000), (65_536, resource.RLIM_INFINITY)]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere listeners are not paused")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "*"])
@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.XPUB])
def test_a_paused_listener_accepts_no_connection_and_existing_peers_notice_nothing(kind, host):
    other = zmq.SUB if kind == zmq.XPUB else zmq.DEALER
    with zmq.Context() as context, context.socket(kind) as bound, context.socket(other) as peer:
        bound.linger = peer.linger = 0
        bound.ipv6 = peer.ipv6 = host != "127.0.0.1"
        port = bound.bind_to_random_port(f"tcp://{host}")
        address = (host.strip("[]").replace("*", "127.0.0.1"), port)
        peer.connect(f"tcp://{host.replace('*', '127.0.0.1')}:{port}")
        say(peer, b"before")
        assert b"before" in hear(bound)[-1]

        listener = find_listener(port)
        listener.listen(False)
        with socket.create_connection(address) as waiting:
            say(peer, b"meanwhile")
            assert b"meanwhile" in hear(bound)[-1]
            waiting.settimeout(0.1)
            with pytest.raises(TimeoutError):
                waiting.recv(1)

            listener.listen(True)
            waiting.settimeout(20)
            # The greeting of ZMTP.
            assert waiting.recv(1) == b"\xff"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere listeners are not paused")
def test_a_listener_that_is_closed_is_not_touched():
    with zmq.Context() as context:
        with context.socket(zmq.ROUTER) as bound, context.socket(zmq.DEALER) as peer:
            bound.linger = peer.linger = 0
            port = bound.bind_to_random_port("tcp://127.0.0.1")
            peer.connect(f"tcp://127.0.0.1:{port}")
            say(peer, b"listens")
            hear(bound)
            listener = find_listener(port)
    # The context has ended, and ZeroMQ's thread with it.
    with pytest.raises(OSError):
        listener.listen(False)


def say(peer, text):
    if peer.type == zmq.SUB:
        peer.subscribe(text)
    else:
        peer.send(text)


def hear(bound):
    assert bound.poll(20_000)
    return bound.recv_multipart()
