"""Connections to a running service over which no valid HELLO comes are ended. No call of an honest client fails for it."""

import os
from contextlib import ExitStack, closing

import pytest

from discovery.accepted import inode_of, shut_down
from tests import zmtp
from tests.stage import Aside, aside, until
from zmqservices.membership import Membership
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.transport.sockets import ROUTING_ID_LENGTH, ROUTING_ID_PREFIX
from zmqservices.wire import envelope
from zmqservices.wire.messages import MAJOR, MINOR, Call, Hello


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b


@pytest.fixture
def router(serve):
    """The socket of a service whose connections have one second for a HELLO."""
    container = serve(Maths, hello_timeout=1)
    return next(each for each in container.extensions if isinstance(each, Membership)).join().call_server._router


def ended(router):
    return router._silent._report.count


def connect(router, *bodies):
    """A connection by hand, after its handshake."""
    routing_id = ROUTING_ID_PREFIX + os.urandom(ROUTING_ID_LENGTH - 1)
    raw = zmtp.connect(router.endpoint, zmtp.GREETING + zmtp.ready(b"DEALER", routing_id))
    zmtp.shake_hands(raw)
    raw.sendall(b"".join(map(zmtp.frame, bodies)))
    return raw


SAID = {
    "nothing": [],
    "junk": [b"junk"],
    "a call": [envelope.encode(Call(1, "maths", "add", [2, 3]))],
    "a HELLO of another namespace": [envelope.encode(Hello(MAJOR, MINOR, "node", "another", None))],
    "a HELLO of another version": [envelope.encode(Hello(MAJOR + 1, MINOR, "node", "another", None))],
}


def test_who_says_no_valid_hello_is_let_go_and_an_idle_client_is_not(router, cluster_config):
    with ServiceRpcProxy("maths", cluster_config) as client, ExitStack() as stack:
        assert client.add(2, 3) == 5
        [connection] = router._silent._descriptors.values()
        silent = [stack.enter_context(closing(connect(router, *bodies))) for bodies in SAID.values()]

        until(lambda: all(map(zmtp.has_ended, silent)))

        assert client.add(2, 3) == 5
        assert router._silent._connections._all.keys() == {connection}
    assert ended(router) == len(SAID)


def test_a_client_in_a_plain_thread_that_makes_no_call_meanwhile_is_answered_afterwards(router, cluster_config):
    """Its link was lost, and ZeroMQ connected again. Nobody says HELLO there before the next call."""
    proxy = ServiceRpcProxy("maths", cluster_config)
    try:
        client = aside(proxy.start)
        assert aside(client.add, 2, 3) == 5
        [descriptor] = router._silent._descriptors.values()
        assert shut_down(descriptor, inode_of(descriptor), router._silent._port) == "127.0.0.1"

        until(lambda: ended(router) == 2)

        calls = [Aside(client.add, number, 1) for number in range(5)]
        assert [call.get() for call in calls] == [1, 2, 3, 4, 5]
    finally:
        proxy.stop()


def test_a_client_that_the_service_forgot_over_a_living_connection_is_let_go(router, cluster_config):
    with ServiceRpcProxy("maths", cluster_config) as client:
        assert client.add(2, 3) == 5
        with closing(connect(router, envelope.encode(Hello(MAJOR, MINOR, "node", cluster_config["NAMESPACE"], None)))) as raw:
            until(lambda: len(router.clients) == 2)
            raw.send(b"".join(zmtp.frame(b"junk") for _ in range(30)))

            until(lambda: zmtp.has_ended(raw))

        assert client.add(2, 3) == 5
