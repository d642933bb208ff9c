"""The ZAP handler: which handshakes it accepts, how many per second, and that it refuses all if it fails."""

import logging

import pytest
import zmq

from discovery.security import zap
from discovery.security.signing import KeyPair, new_node_keys
from discovery.security.zap import BROKEN, BURST, LATER, OK, PER_SECOND, REFUSED, HandshakePace, ZapHandler, verdict
from tests.security.stage import Stranger

KEY = b"k" * 32


def request(*credentials, version=b"1.0", domain=zap.DOMAIN, mechanism=b"CURVE"):
    return [version, b"1", domain, b"127.0.0.1", b"", mechanism, *credentials]


@pytest.mark.parametrize(
    "frames, status",
    [
        (request(KEY), OK),
        (request(KEY, mechanism=b"NULL"), REFUSED),
        (request(mechanism=b"NULL"), REFUSED),
        (request(b"user", b"password", mechanism=b"PLAIN"), REFUSED),
        (request(KEY, domain=b"other"), REFUSED),
        (request(KEY[1:]), REFUSED),
        (request(), REFUSED),
        (request(KEY, version=b"2.0"), BROKEN),
        ([], BROKEN),
    ],
)
def test_who_proves_a_key_is_let_in_and_known_by_it(frames, status):
    found, _, user = verdict(frames, HandshakePace(10, 10, 0.0), 0.0)

    assert found == status
    assert user == (KEY.hex().encode() if status == OK else b"")


def test_so_many_handshakes_in_a_second_and_no_more():
    pace = HandshakePace(PER_SECOND, BURST * PER_SECOND, 0.0)

    assert all(verdict(request(KEY), pace, 0.0)[0] == OK for _ in range(BURST * PER_SECOND))
    assert verdict(request(KEY), pace, 0.0)[0] == LATER
    assert sum(verdict(request(KEY), pace, 1.0)[0] == OK for _ in range(2 * PER_SECOND)) == PER_SECOND
    assert sum(verdict(request(KEY), pace, 1000.0)[0] == OK for _ in range(2 * BURST * PER_SECOND)) == BURST * PER_SECOND


@pytest.fixture
def server():
    """`server(with_handler)`: the endpoint and key of an encrypted socket."""
    contexts, sockets = [], []

    class Held:
        pair = new_node_keys()

    def server(has_handler=True):
        context = zmq.Context()
        contexts.append(context)
        if has_handler:
            ZapHandler(context)
        socket = context.socket(zmq.ROUTER)
        sockets.append(socket)
        socket.linger = 0
        socket.set(zmq.HANDSHAKE_IVL, 500)
        zap.secure_server(socket, Held)
        return f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}", Held.pair.public

    yield server
    for socket in sockets:
        socket.close()
    for context in contexts:
        context.term()


def connects(endpoint, key, pair=None):
    with Stranger(endpoint, pair or new_node_keys(), key) as stranger:
        return stranger.is_connected()


def test_with_the_handler_a_key_comes_in(server):
    assert connects(*server())


def test_without_a_handler_nobody_comes_in(server):
    assert not connects(*server(has_handler=False))


def test_a_handler_that_fails_lets_nobody_in_and_says_so(server, monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError("out of order")

    endpoint, key = server()
    monkeypatch.setattr(zap, "verdict", fail)

    with caplog.at_level(logging.ERROR):
        assert not connects(endpoint, key)
        assert not connects(endpoint, key)

    assert "no new connection is accepted" in caplog.text


def test_a_key_pair_shows_no_private_key():
    assert "pppp" not in repr(KeyPair(b"p" * 32, KEY))
