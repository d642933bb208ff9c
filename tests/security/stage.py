"""Certificates and folders for tests of security."""

import os
from dataclasses import replace
from time import monotonic

import gevent
import zmq
from zmq.utils.monitor import recv_monitor_message

from discovery.security.certificates import Certificate, issue
from discovery.security.signing import new_node_keys, new_signing_keys
from zmqservices.wire import envelope

NOW = 1_800_000_000.0


def certificate_of(pair, **fields):
    """A certificate of the holder of `pair`, for an hour from NOW."""
    return replace(Certificate("orders", pair.public, "a1", NOW, NOW + 3600), **fields)


class Stage:
    """An authority and a node whose certificate holds."""

    def __init__(self):
        self.authority = new_signing_keys()
        self.node = new_node_keys()

    def signed(self, **fields):
        return issue(certificate_of(self.node, **fields), self.authority).to_bytes()


class Stranger:
    """A peer made by hand: a DEALER with these keys, or with none, that says what it likes."""

    def __init__(self, endpoint, pair=None, server_key=None):
        self._is_over = False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.set(zmq.ROUTING_ID, b"\x01" + os.urandom(16))
        self._socket.set(zmq.RECONNECT_IVL, -1)
        self._monitor = self._socket.get_monitor_socket()
        if pair is not None:
            self._socket.set(zmq.CURVE_PUBLICKEY, pair.public)
            self._socket.set(zmq.CURVE_SECRETKEY, pair.private)
            self._socket.set(zmq.CURVE_SERVERKEY, server_key)
        self._socket.connect(endpoint)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._socket.disable_monitor()
        self._context.destroy(linger=0)

    def is_connected(self, timeout=30.0):
        """Whether the handshake succeeded; waits until it did or failed."""
        deadline = monotonic() + timeout
        while (left := deadline - monotonic()) > 0:
            if not _readable(self._monitor, left):
                break
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return True
            if event in FAILED:
                return False
        raise AssertionError(f"no handshake within {timeout} s")

    def has_ended(self):
        """Whether the connection, once it was there, has ended."""
        while not self._is_over and self._monitor.poll(0):
            self._is_over = recv_monitor_message(self._monitor)["event"] in FAILED
        return self._is_over

    def say(self, *messages):
        for message in messages:
            if not self._is_over:
                try:
                    self._socket.send(envelope.encode(message), zmq.DONTWAIT)
                except zmq.Again:
                    # The connection has just ended. A send that waits would wait for ever, because nobody connects again.
                    while not self.has_ended():
                        assert self._monitor.poll(10_000)

    def hear(self, timeout=30.0):
        """The next message."""
        assert _readable(self._socket, timeout), f"nothing came within {timeout} s"
        return envelope.decode(self._socket.recv())


FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_DISCONNECTED,
)


def _readable(socket, timeout):
    # The service runs on this thread's hub, which has to turn meanwhile.
    deadline = monotonic() + timeout
    while not socket.poll(0):
        if monotonic() > deadline:
            return False
        gevent.sleep(0.001)
    return True
