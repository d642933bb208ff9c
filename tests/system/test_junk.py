"""Junk at the socket of a service, a registry or a client: the process goes on serving, and does not grow."""

import random
import secrets
import threading
import time
from contextlib import contextmanager
from itertools import count, islice

import psutil
import pytest
import zmq

from discovery.faults import MOST_PER_SECOND
from tests.ports import free_port
from tests.system.processes import eventually
from tests.zmtp import connect
from zmqservices.exceptions import RpcTimeout, ZmqServicesError
from zmqservices.standalone.rpc import ClusterRpcProxy
from zmqservices.wire import batches, envelope
from zmqservices.wire.messages import Batch, Call, Error, Hello, Result, Welcome

MEGABYTE = 1024 * 1024
CALL = envelope.encode_call(7, "maths", "add", [2, 3], None, 5.0, None)


@pytest.fixture(scope="module")
def lasting_cluster(make_lasting_cluster):
    """Each faulty message is handled here, however many a peer sends; tests/cluster/calls shows that it is blocked otherwise."""
    return make_lasting_cluster(max_faults_per_second=10_000_000)


@pytest.fixture(scope="module")
def maths(lasting_cluster):
    return lasting_cluster.run_one("maths")


@pytest.fixture
def remote(lasting_cluster, maths, tmp_path):
    """A client that is there before, during and after: nothing of this may touch its calls."""
    with lasting_cluster.client(timeout=20) as remote:
        assert remote.maths.add(2, 3) == 5
        pending = remote.maths.stay_until.with_timeout(170).call_async(str(tmp_path / "end"))
        yield remote
        (tmp_path / "end").touch()
        assert pending.result() == maths.pid
        assert remote.maths.whoami() == maths.pid
    assert maths.is_running
    assert "Traceback" not in maths.output()


@pytest.fixture
def endpoint(lasting_cluster, maths):
    (record,) = lasting_cluster.listing.records("maths")
    return record.endpoints["rpc"]


@contextmanager
def raw_socket(endpoint, kind=zmq.DEALER):
    with zmq.Context() as context, context.socket(kind) as raw:
        raw.linger = 0
        raw.sndtimeo = raw.rcvtimeo = 20_000
        if kind in (zmq.DEALER, zmq.REQ, zmq.ROUTER):
            raw.routing_id = b"\1" + secrets.token_bytes(16)
        raw.connect(endpoint)
        yield raw


def answers(raw):
    """What the service says, one message after the other, without mere signs of life."""
    while True:
        message = envelope.decode(raw.recv())
        for each in map(envelope.message_of, message.messages) if isinstance(message, Batch) else [message]:
            if type(each).__name__ not in ("Ping", "Pong"):
                yield each


def answer(raw):
    """The next one, where no others come along with it."""
    return next(answers(raw))


def rss(process):
    return psutil.Process(process.pid).memory_info().rss


def test_bytes_that_are_no_message_are_answered_with_an_error(remote, endpoint):
    rng = random.Random(1)

    with raw_socket(endpoint) as raw:
        for number in range(300):
            raw.send(rng.randbytes(number % 50))
            error = answer(raw)
            assert type(error) is Error and error.error["code"] == "protocol", error


def test_half_messages_are_answered_with_an_error(remote, endpoint):
    with raw_socket(endpoint) as raw:
        for size in range(len(CALL)):
            raw.send(CALL[:size])
            assert answer(raw).error["code"] == "protocol"


def test_another_major_version_is_told_so(remote, endpoint):
    with raw_socket(endpoint) as raw:
        raw.send(envelope.encode(Hello(99, 0, "raw", "default", None)))
        error = answer(raw)

    assert error.id is None
    assert error.error["code"] == "version"
    assert "99" in error.error["value"]


def test_another_namespace_is_told_so(lasting_cluster, remote, endpoint):
    with raw_socket(endpoint) as raw:
        raw.send(envelope.encode(Hello(1, 0, "raw", "elsewhere", None)))
        error = answer(raw)

    assert lasting_cluster.namespace in error.error["value"]
    assert "elsewhere" in error.error["value"]


def test_each_message_of_a_batch_is_taken_as_if_it_came_alone(lasting_cluster, remote, endpoint, maths):
    placeholder = bytes.fromhex("c70010")
    announces = envelope.encode(Call(10, "maths", "add", [1, 2])).replace(b"\x92\x01\x02", b"\x92" + placeholder + b"\x02")
    hello = envelope.encode(Hello(1, 0, "raw", lasting_cluster.namespace, None))
    bodies = [
        envelope.encode(Call(8, "maths", "add", [1, 2])),
        b"\xa4junk",
        envelope.encode(Batch([[3, 9, "maths", "add", [3, 4]]])),
        announces,
        envelope.encode(Call(11, "maths", "add", [5, 6])),
    ]

    with raw_socket(endpoint) as raw:
        raw.send(hello)
        raw.send(batches.encode(bodies))
        told = list(islice(answers(raw), 6))
        # A frame that none of them may have costs all of them.
        raw.send_multipart([batches.encode(bodies), b"a frame that is not announced"])
        raw.send(bodies[-1])
        told += list(islice(answers(raw), 2))

    assert type(told[0]) is Welcome
    assert [message.error["code"] for message in told if type(message) is Error] == ["protocol"] * 4
    assert sorted((message.id, message.value) for message in told if type(message) is Result) == [(8, 3), (11, 11), (11, 11)]


def test_a_call_before_the_greeting_is_refused(remote, endpoint, maths):
    with raw_socket(endpoint) as raw:
        raw.send(CALL)
        error = answer(raw)

    assert error.id == 7
    assert "HELLO" in error.error["value"]


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ, zmq.ROUTER, zmq.PUSH, zmq.PUB], ids=lambda kind: kind.name)
def test_sockets_of_any_kind_with_frames_of_any_number(remote, endpoint, kind):
    with zmq.Context() as context, context.socket(kind) as raw:
        raw.linger = 0
        raw.connect(endpoint)
        for frames in ([b""], [b"", CALL], [CALL, CALL], [b"\0abcd", CALL, CALL], [b"x"] * 3000):
            try:
                raw.send_multipart(frames, zmq.NOBLOCK)
            except zmq.ZMQError:
                pass  # A REQ may not send twice, a PUSH has nobody to send to: that is its own business.
        with raw_socket(endpoint) as other:
            # What one socket got wrong does not shift the frames of the next.
            other.send(envelope.encode(Hello(1, 0, "raw", remote_namespace(remote), None)))
            assert type(answer(other)) is Welcome


def remote_namespace(remote):
    return remote._client._cluster.caller().settings.namespace


def test_a_frame_beyond_the_limit_costs_its_sender_the_connection_and_us_nothing(remote, endpoint, maths):
    before = rss(maths)

    with raw_socket(endpoint) as raw:
        monitor = raw.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        raw.send(b"\x93" + bytes(80 * MEGABYTE))
        assert monitor.poll(20_000), "it was not thrown out"
        raw.disable_monitor()
        monitor.close(0)

    assert rss(maths) - before < 20 * MEGABYTE


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10,
        b"\xff\0\0\0\0\0\0\0\1\x7f\3\0" + b"PLAIN".ljust(52, b"\0"),
        random.Random(5).randbytes(10_000),
        b"\0" * 1000,
    ],
    ids=["HTTP", "another mechanism", "noise", "zeros"],
)
def test_bytes_that_are_no_zeromq(remote, endpoint, greeting):
    for _ in range(20):
        connect(endpoint, greeting).close()


def test_a_connection_that_says_nothing_is_closed(remote, endpoint):
    with connect(endpoint, b"\xff\0\0\0\0\0\0\0\1\x7f") as raw:
        while raw.recv(4096):
            pass


def flood(endpoint, hello):
    """Some thousand messages of every bad sort, from several sockets that never read what they are told."""
    rng = random.Random(2)
    sorts = [
        lambda: [rng.randbytes(1000)],
        lambda: [CALL[: rng.randrange(len(CALL))]],
        lambda: [CALL, bytes(1000)],
        lambda: [b""] * 20,
        lambda: [envelope.encode_call(rng.getrandbits(60), "nobody", "add", [1], None, 5.0, None)],
        lambda: [envelope.encode_call(rng.getrandbits(60), "maths", "nothing", [bytes(900)], None, 5.0, None)],
    ]
    for _ in range(8):
        with raw_socket(endpoint) as raw:
            raw.send(hello)
            for number in range(500):
                raw.send_multipart(sorts[number % len(sorts)]())
            # Everything has arrived when the answer to this has; half of the sockets do not wait for it.
            raw.send(envelope.encode(Hello(99, 0, "raw", "default", None)))
            if rng.random() < 0.5:
                assert any(type(message) is Error and message.error.get("code") == "version" for message in answers(raw))


def test_memory_does_not_grow_under_a_flood_of_junk(lasting_cluster, remote, endpoint, maths):
    hello = envelope.encode(Hello(1, 0, "raw", lasting_cluster.namespace, None))
    flood(endpoint, hello)  # What is allocated once and kept is allocated now.
    assert remote.maths.add(2, 3) == 5
    before = rss(maths)

    for _ in range(2):
        flood(endpoint, hello)
        assert remote.maths.add(2, 3) == 5

    eventually(lambda: rss(maths) - before < 10 * MEGABYTE, what="memory is as it was")


def test_a_client_that_calls_and_never_reads_is_given_up(lasting_cluster, remote, endpoint, maths):
    before = rss(maths)
    hello = envelope.encode(Hello(1, 0, "deaf", lasting_cluster.namespace, None))
    numbers = count(1)

    with zmq.Context() as context, context.socket(zmq.DEALER) as raw:
        raw.linger = 0
        raw.routing_id = b"\1" + secrets.token_bytes(16)
        raw.rcvhwm = 10
        raw.rcvbuf = 10_000
        raw.sndtimeo = 20_000
        raw.connect(endpoint)
        raw.send(hello)

        def is_given_up_after_more_calls():
            # How many are needed is not known: a busy service refuses some, and a refusal is short.
            for number in islice(numbers, 100):
                raw.send_multipart(envelope.encode_call(number, "maths", "echo", [bytes(100_000)], None, 60.0, None))
            return "gave up node deaf" in maths.output()

        eventually(is_given_up_after_more_calls, timeout=40.0, what="it is given up")
        assert remote.maths.add(2, 3) == 5

    # 270 MB were held for it. The last 64 MiB of what ZeroMQ's thread had stay with the allocator.
    eventually(lambda: rss(maths) - before < 90 * MEGABYTE, what="memory comes back")


def test_a_registry_survives_junk(cluster):
    (registry,) = cluster.registries
    rng = random.Random(3)

    def throw():
        for _ in range(100):
            # As many as a connection may send in a second, so that each of them is handled.
            with raw_socket(cluster.url) as raw:
                for number in range(MOST_PER_SECOND):
                    raw.send_multipart([rng.randbytes(1100)] * (1 + number % 3))
                for _ in range(MOST_PER_SECOND):
                    assert raw.recv(), "it says each time that this was nothing"

    throw()
    before = rss(registry)
    throw()
    throw()

    maths = cluster.run_one("maths")
    assert cluster.listing.pids("maths") == {maths.pid}
    # All of it was read before the first look and the last; these 4,000 messages were 9 MB.
    assert rss(registry) - before < 5 * MEGABYTE


@pytest.mark.parametrize("greets", [True, False], ids=["greets well", "greets with junk"])
def test_a_client_survives_a_service_that_answers_junk(greets):
    rng = random.Random(4)
    port = free_port()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        server.linger = 0
        server.bind(f"tcp://127.0.0.1:{port}")
        config = {"DIRECTORY": f"static:maths=tcp://127.0.0.1:{port}", "rpc_wait_for_service": 0.5}
        with ClusterRpcProxy(config, timeout=1) as remote:
            end = time.monotonic() + 10
            # The client connects with its first call, in which it waits; so the first one is made by a thread.
            caught = []

            def run():
                try:
                    remote.maths.add(2, 3)
                except ZmqServicesError as exc:
                    caught.append(exc)

            call = threading.Thread(target=run)
            call.start()
            while call.is_alive() and time.monotonic() < end:
                if server.poll(50):
                    peer, body, *_ = server.recv_multipart()
                    if greets and type(envelope.decode(body)) is Hello:
                        server.send_multipart([peer, envelope.encode(Welcome(1, 0, "node", "default", None))])
                    else:
                        server.send_multipart([peer, rng.randbytes(100)])
                        server.send_multipart([peer, b"", b"", rng.randbytes(10)])
            call.join(10)

        (error,) = caught
        assert isinstance(error, RpcTimeout) or not greets
