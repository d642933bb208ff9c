"""Whatever arrives, the error is clear and at the right place, and the service serves on."""

import os
import random

import msgpack
import psutil
import pytest
import zmq

from zmqservices.exceptions import (
    IncorrectSignature,
    MessageTooLarge,
    MethodNotFound,
    RemoteError,
    UnknownService,
    UnserializableValueError,
)

MEBIBYTE = 1024 * 1024


@pytest.fixture
def maths(cluster):
    process = cluster.run_one("maths")
    process.address = cluster.listing.records("maths")[0].endpoints["rpc"]
    return process


def test_mistakes_of_callers_are_named_and_do_no_harm(cluster, maths):
    with cluster.client(rpc_wait_for_service=0.3) as remote:
        with pytest.raises(RemoteError, match="TypeError"):
            remote.maths.add(1, "2")
        with pytest.raises(IncorrectSignature, match="missing 1 required positional argument: 'b'"):
            remote.maths.add(1)
        with pytest.raises(MethodNotFound, match="ad"):
            remote.maths.ad(1, 2)
        with pytest.raises(UnknownService, match="no instance of 'math' is known; directory tcp://"):
            remote.math.add(1, 2)
        with pytest.raises(UnserializableValueError, match="object object"):
            remote.maths.echo(object())
        with pytest.raises(RemoteError, match="UnserializableValueError"):
            remote.maths.something_unserializable()

        assert remote.maths.add(2, 3) == 5


def test_a_hundred_mebibytes_are_refused_where_they_come_from(cluster, maths):
    before = psutil.Process(maths.pid).memory_info().rss
    with cluster.client(timeout=30) as remote:
        with pytest.raises(MessageTooLarge, match="max_message_size is 67,108,864"):
            remote.maths.size(bytes(100 * MEBIBYTE))
        with pytest.raises(RemoteError, match="MessageTooLarge.*max_message_size"):
            remote.maths.bytes_of(100 * MEBIBYTE)
        assert remote.maths.size(bytes(10 * MEBIBYTE)) == 10 * MEBIBYTE
        assert remote.maths.add(2, 3) == 5

    assert psutil.Process(maths.pid).memory_info().rss - before < 150 * MEBIBYTE


def answers(socket, wanted=1):
    """What comes within a bounded time, decoded."""
    found = []
    while len(found) < wanted and socket.poll(5000):
        found.append(msgpack.unpackb(socket.recv_multipart()[0]))
    return found


@pytest.fixture
def raw(maths):
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(maths.address)
    yield socket
    socket.close()


def test_junk_gets_an_error_and_the_service_serves_on(cluster, maths, raw):
    raw.send(b"\xc1junk")
    raw.send(msgpack.packb([3, 7, "maths", "add", [1, 2]]))
    raw.send(msgpack.packb([1, 99, 0, "me", cluster.namespace]))
    raw.send(msgpack.packb([1, 1, 0, "me", "another namespace"]))
    raw.send(msgpack.packb([200, 1]))
    errors = answers(raw, 5)

    assert [error[0] for error in errors] == [5] * 5
    assert [error[1] for error in errors] == [None, 7, None, None, None]
    assert [error[2]["code"] for error in errors] == ["protocol", "protocol", "version", "protocol", "protocol"]
    with cluster.client() as remote:
        assert remote.maths.add(2, 3) == 5


def test_a_flood_of_junk_does_not_grow_memory(cluster, maths, raw):
    chance = random.Random(1)
    pieces = [b"", b"\0", os.urandom(5), b"\0abcd", os.urandom(100), msgpack.packb([3, 1, "maths"]), os.urandom(5000)]

    def flood(messages):
        for number in range(messages):
            raw.send_multipart([chance.choice(pieces) for _ in range(chance.randint(1, 8))])
            # Refusals are read: who does not read them does not hear heartbeats either, and is cut off now and then.
            while number % 100 == 0 and raw.poll(0):
                raw.recv()

    with cluster.client(timeout=30) as remote:
        flood(10_000)
        # Its greeting is read after all that, so the flood is over when it is answered.
        raw.send(msgpack.packb([1, 1, 0, "me", cluster.namespace]))
        while answers(raw)[0][0] != 2:
            pass
        before = psutil.Process(maths.pid).memory_info().rss
        flood(20_000)
        raw.send(msgpack.packb([1, 1, 0, "me", cluster.namespace]))
        while answers(raw)[0][0] != 2:
            pass
        assert remote.maths.add(2, 3) == 5

    # What waits in sockets is bounded, and was there the first time; 20,000 of these messages are 80 MiB.
    assert psutil.Process(maths.pid).memory_info().rss - before < 40 * MEBIBYTE


def test_a_frame_beyond_the_limit_costs_only_its_own_connection(cluster, maths, raw):
    raw.send(bytes(80 * MEBIBYTE))

    with cluster.client(timeout=30) as remote:
        assert remote.maths.add(2, 3) == 5
