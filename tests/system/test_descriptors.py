"""A process without free descriptors serves connected clients, does not spin over others, and accepts these later."""

import resource
import time
from contextlib import contextmanager

import psutil
import zmq

from tests.system.processes import eventually
from zmqservices.exceptions import RemoteUnavailable

LIMIT = 64
CROWD = 150
#: Seconds over which the processor time is compared.
SPAN = 1.5
#: The most of a core that may be taken meanwhile; it is all of one where nothing backs off.
MOST = 0.2


@contextmanager
def crowd(endpoint):
    """More connections than the other side has descriptors for; one socket has them all."""
    with zmq.Context() as context:
        sockets = [context.socket(zmq.DEALER) for _ in range(CROWD)]
        for socket in sockets:
            socket.linger = 0
            socket.reconnect_ivl = 50
            socket.connect(endpoint)
        try:
            yield
        finally:
            for socket in sockets:
                socket.close()


def limited(process):
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    return process


def answer(remote):
    try:
        return remote.maths.whoami()
    except RemoteUnavailable:
        return None


def share_of_a_core(process):
    watched = psutil.Process(process.pid)
    before, began = sum(watched.cpu_times()[:2]), time.monotonic()
    time.sleep(SPAN)
    return (sum(watched.cpu_times()[:2]) - before) / (time.monotonic() - began)


def test_a_call_server_without_descriptors_answers_its_peers_and_takes_no_core(cluster):
    maths = cluster.run_one("maths")
    maths.has_said("Services started")
    limited(maths)
    (record,) = cluster.listing.records("maths")
    with cluster.client(timeout=20) as connected:
        assert connected.maths.whoami() == maths.pid

        with crowd(record.endpoints["rpc"]):
            maths.has_said("new connections to")
            used = share_of_a_core(maths)
            assert connected.maths.add(2, 3) == 5

    assert used < MOST
    assert maths.output().count("new connections to") == 1
    assert "ulimit -n" in maths.output()
    with cluster.client(timeout=20) as late:
        assert eventually(lambda: answer(late), what="a client that came later is served") == maths.pid


def test_a_registry_without_descriptors_takes_no_core_and_serves_whoever_comes_later(cluster):
    (registry,) = cluster.registries
    limited(registry)

    with crowd(cluster.url):
        registry.has_said("new connections to")
        used = share_of_a_core(registry)

    assert used < MOST
    cluster.run_one("maths")
