"""What interrupts the thread that polls does not make sockets deaf."""

import pytest
import zmq

from zmqservices.transport.blocking import BlockingReactor


class Ear:
    """Hears what comes to a PULL socket; the first time something else may happen."""

    def __init__(self, context, happens=None):
        self.socket = context.socket(zmq.PULL)
        self.socket.linger = 0
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.mouth = context.socket(zmq.PUSH)
        self.mouth.linger = 0
        self.mouth.connect(f"tcp://127.0.0.1:{port}")
        self.happens = happens
        self.heard = []

    def drain(self):
        happens, self.happens = self.happens, None
        if happens is not None:
            raise happens
        try:
            while True:
                self.heard.append(self.socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            return False


@pytest.fixture
def reactor():
    reactor = BlockingReactor()
    yield reactor
    reactor.close()


@pytest.mark.parametrize("happens", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_every_socket_heard(reactor, happens):
    with zmq.Context() as context:
        ears = [Ear(context), Ear(context, happens), Ear(context)]
        try:
            watches = [reactor.watch(ear) for ear in ears]
            for ear in ears:
                ear.mouth.send(b"hello")
                # It has noticed: the descriptor tells no more.
                assert ear.socket.poll(5_000)
            for _ in range(2):
                try:
                    reactor.run(reactor._poll, 0.0)
                except KeyboardInterrupt:
                    assert happens is KeyboardInterrupt

            assert [ear.heard for ear in ears] == [[b"hello"]] * 3
            for watch in watches:
                watch.close()
        finally:
            for ear in ears:
                ear.socket.close()
                ear.mouth.close()
