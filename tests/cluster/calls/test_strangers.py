"""Messages of a node before its HELLO. A disconnected node sends HELLO again; other nodes learn nothing and cost little."""

import secrets

import pytest
import zmq

from tests.stage import aside, linked
from zmqservices.rpc import rpc
from zmqservices.wire import batches, envelope
from zmqservices.wire.messages import Ack, Batch, Bye, Cancel, Error, Hello, Ping, Pong, Welcome


class Maths:
    name = "maths"
    ran = []

    @rpc
    def fine(self):
        return True

    @rpc
    def add(self, left, right):
        self.ran.append((left, right))
        return left + right


@pytest.fixture
def talk(serve, cluster):
    """Say these bodies to a service as a peer of one's own; answers what it says until it has answered a last PING."""
    serve(Maths)
    maths = linked(cluster.maths)
    Maths.ran.clear()
    (peer,) = maths._client._cluster.caller()._peer_pool.peers.values()

    def say(frames):
        with zmq.Context() as context, context.socket(zmq.DEALER) as raw:
            raw.linger = 0
            raw.rcvtimeo = 20_000
            raw.routing_id = b"\1" + secrets.token_bytes(16)
            raw.connect(peer.endpoint)
            for body in (*frames, envelope.encode(Ping(99))):
                raw.send_multipart([body] if isinstance(body, bytes) else body)
            heard = []
            while Pong(99) not in heard:
                message = envelope.decode(raw.recv())
                heard += map(envelope.message_of, message.messages) if isinstance(message, Batch) else [message]
            return heard

    return lambda *frames: aside(say, frames)


def call(number, *args):
    return envelope.encode_call(number, "maths", "add", args, None, 5.0, {})


def refused(heard):
    return [(message.id, message.error["code"]) for message in heard if isinstance(message, Error)]


def test_each_call_before_a_hello_is_refused_with_its_id(talk):
    heard = talk(call(7, 1, 2), batches.encode([call(8, 1, 2), call(9, 1, 2)]), call(10, "x" * 100_000), call(11, bytes(100_000)))

    assert refused(heard) == [(number, "protocol") for number in (7, 8, 9, 10, 11)]
    assert Maths.ran == []


@pytest.mark.parametrize("message", [Cancel(7), Bye(None), Pong(5), Ack("g", "j", 1)], ids=lambda message: type(message).__name__)
def test_messages_of_a_disconnected_node_end_nothing(talk, message):
    assert refused(talk(envelope.encode(message))) == []


def test_long_messages_before_a_hello_are_not_read(talk):
    (refusal,) = refused(talk(envelope.encode(Hello(1, 0, "x" * 100_000, "y"))))

    assert refusal == (None, "protocol")


def test_extra_frames_of_a_message_are_dropped(talk):
    heard = talk([envelope.encode(Ping(1)), b"\1" * 17, call(7, 1, 2), b"stray"])

    assert heard == [Pong(1), Pong(99)]
    assert Maths.ran == []


def test_a_message_of_many_frames_is_dropped_in_pieces(talk):
    assert talk([envelope.encode(Ping(1)), *[b"x"] * 20_000]) == [Pong(1), Pong(99)]


def test_a_node_of_another_namespace_gets_a_short_refusal(talk):
    (error,) = [each for each in talk(envelope.encode(Hello(1, 0, "n", "y" * 5000))) if isinstance(each, Error)]

    assert len(error.error["value"]) < 500


def test_only_a_hello_of_the_same_namespace_gets_a_welcome(talk):
    assert not [each for each in talk(envelope.encode(Hello(1, 0, "n", "another"))) if isinstance(each, Welcome)]
