"""An attacker beside honest clients: their calls are answered, no process ends or grows, and the log reports the attack."""

import secrets
from contextlib import contextmanager

import psutil
import pytest
import zmq

from tests.system.attacks import SHARES
from tests.system.processes import eventually
from tests.system.siege import Siege
from tests.zmtp import GREETING, connect, ready
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Cancel, Hello, Ping

MEGABYTE = 1024 * 1024
READY = ready(b"DEALER")
CALL = envelope.encode_call(7, "maths", "add", [2, 3], None, 5.0, {})
BOMB = b"\x92\x0d\xdd" + (1_000_000).to_bytes(4, "big") + bytes(1_000_000)


@pytest.fixture(scope="module")
def maths(lasting_cluster):
    return lasting_cluster.run_one("maths")


@pytest.fixture
def attack(lasting_cluster, maths):
    """Calls of an honest client between the steps of an attack, and what must hold when it is over."""
    (record,) = lasting_cluster.listing.records("maths")
    before = psutil.Process(maths.pid).memory_info().rss

    def run(steps):
        with lasting_cluster.client(timeout=20) as remote:
            for step in steps(record.endpoints["rpc"], lasting_cluster.namespace):
                step()
                assert remote.maths.add(2, 3) == 5

    yield run
    eventually(lambda: psutil.Process(maths.pid).memory_info().rss - before < 50 * MEGABYTE, what="memory is as it was")
    assert maths.is_running
    assert "Traceback" not in maths.output()


@contextmanager
def dealer(endpoint):
    with zmq.Context() as context, context.socket(zmq.DEALER) as raw:
        raw.linger = 0
        raw.sndtimeo = raw.rcvtimeo = 20_000
        raw.routing_id = b"\1" + secrets.token_bytes(16)
        raw.connect(endpoint)
        yield raw


def test_a_dealer_that_says_all_that_it_should_not(attack, maths):
    def steps(endpoint, namespace):
        with dealer(endpoint) as raw:
            for body in (CALL, BOMB, envelope.encode(Ack("g", "j", 1)), envelope.encode(Cancel(7)), secrets.token_bytes(500)):
                yield lambda body=body: raw.send(body)
            yield lambda: raw.send_multipart([CALL, b"\1" * 17, CALL, *[b"x"] * 20_000])
            yield lambda: raw.send(envelope.encode(Hello(1, 0, "evil", namespace)))
            for body in (BOMB, b"\x95" * 3000, envelope.encode_call(8, "x" * MEGABYTE, "y", [], None, 5.0, {})):
                yield lambda body=body: raw.send(body)
            raw.send(envelope.encode(Ping(99)))
            yield lambda: raw.recv()

    attack(steps)

    for who in ("a peer at 127.0.0.1", "node evil at 127.0.0.1"):
        eventually(lambda who=who: f"{who} sent what cannot be handled" in maths.output(), what="the log says so")


def test_zmtp_by_hand_that_never_ends_as_it_should(attack):
    def steps(endpoint, namespace):
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n", GREETING[:20], GREETING, GREETING + READY, GREETING + b"\x02" + b"\xff" * 8):
            with connect(endpoint) as raw:
                yield lambda said=said, raw=raw: raw.sendall(said)
        with connect(endpoint) as raw:
            raw.sendall(GREETING + READY)
            yield lambda: raw.sendall(b"\x01\x01x" * 1000 + b"\x00\x01x")

    attack(steps)


#: Hostile messages of all kinds together; `python -m tests.system.attacks` sends as many as one likes.
MESSAGES = 2_000

#: Seconds for which honest calls may wait anyhow where a machine has other work: what once was wrong held them up for longer.
NOISE = 1.0


def test_honest_clients_do_not_notice_attacks_of_all_kinds(stage, tmp_path):
    with Siege(stage, tmp_path) as siege:
        calm = siege.calm(1.0)
        for name, share in SHARES.items():
            siege.attack(name, MESSAGES * share // 1000, seed=1)

        # Whoever reads the logs learns who it was.
        faults = siege.faults(calm, NOISE) + siege.untold()

    assert not faults
