"""Attackers at the door of a closed cluster, by hand: what their connections say before anybody knows who they are.

All are at one running service, at the same time. Each is let go, and honest clients come in and are answered beside them.
"""

import os
import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from functools import reduce

import gevent
import msgpack
import psutil
import pytest
import zmq

from discovery import open_directory
from discovery.security.certificates import SignedCertificate
from discovery.security.keys import Keys
from discovery.security.signing import new_node_keys, sign
from discovery.server.limits import RegistryLimits
from discovery.server.registry_server import RegistryServer
from tests.security.stage import Stranger
from tests.stage import until
from tests.zmtp import connect, has_ended
from zmqservices.containers import ServiceContainer
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.wire.envelope import message_of
from zmqservices.wire.messages import MAJOR, MINOR, Batch, Call, Error, Hello, Ping, Result, Welcome

MEGABYTE = 1024 * 1024


#: A busy machine needs some time for an honest handshake; a false one is ended after three heartbeats.
PATIENT = {"HEARTBEAT": 1}


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b


@pytest.fixture(scope="module")
def maths(cluster, tmp_path_factory):
    """The port and the public key of a service that all tests share, and settings of a client that may call it."""
    settings = {"JOURNAL_FOLDER": str(tmp_path_factory.mktemp("journals")), **cluster.node("maths", serves="maths"), **PATIENT}
    container = ServiceContainer(Maths, settings)
    container.start()
    with open_directory(cluster.registry.url, namespace=None, keys=Keys.read(cluster.keys("reader"))) as directory:
        until(lambda: directory.service("maths"), 30)
        record = directory.service("maths")[0].record
    yield record.endpoints["rpc"], bytes.fromhex(record.public_key), cluster.node("honest", calls="maths.add")
    container.stop()


def honest_call(settings):
    with ServiceRpcProxy("maths", settings, timeout=30) as client:
        assert client.add(2, 3) == 5


# --- before a key is proven -----------------------------------------------------------------------------------------------


def greeting(mechanism):
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32)


def command(body):
    return b"\x04" + bytes([len(body)]) + body if len(body) < 256 else b"\x06" + len(body).to_bytes(8, "big") + body


def handshake_of(endpoint, pair, server_key):
    """What an honest client's socket sends in its handshake: its greeting, HELLO, and INITIATE."""
    said = bytearray()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def relay():
            with closing(listener.accept()[0]) as near, closing(connect(endpoint)) as far:
                answers = threading.Thread(target=pump, args=(far, near), daemon=True)
                answers.start()
                pump(near, far, said)
                answers.join(30)

        thread = threading.Thread(target=relay, daemon=True)
        thread.start()
        with Stranger(f"tcp://127.0.0.1:{listener.getsockname()[1]}", pair, server_key) as stranger:
            assert stranger.is_connected()
        until(lambda: not thread.is_alive(), 30)
    start = 64
    hello = bytes(said[start : start + 202])
    assert hello[2:8] == b"\x05HELLO"
    rest = bytes(said[start + 202 :])
    initiate = rest[: 9 + int.from_bytes(rest[1:9], "big")]
    assert initiate[9:18] == b"\x08INITIATE"
    return greeting(b"CURVE"), hello, initiate


def pump(source, sink, kept=None):
    try:
        while some := source.recv(65_536):
            if kept is not None:
                kept += some
            sink.sendall(some)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


PIECES = {
    "nothing": [],
    "half a greeting": [greeting(b"CURVE")[:30]],
    "a greeting, and no handshake": [greeting(b"CURVE")],
    "no encryption": [greeting(b"NULL"), command(b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER")],
    "a password": [greeting(b"PLAIN"), command(b"\x05HELLO\x04root\x04root")],
    "a mechanism that there is not": [greeting(b"NONSENSE"), command(b"\x05HELLO" + bytes(194))],
    "another protocol": [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "HELLO of junk": [greeting(b"CURVE"), command(b"\x05HELLO" + os.urandom(194))],
    "HELLO of another version": [greeting(b"CURVE"), command(b"\x05HELLO\x09\x09" + bytes(192))],
    "HELLO without a body": [greeting(b"CURVE"), command(b"\x05HELLO")],
    "INITIATE before HELLO": [greeting(b"CURVE"), command(b"\x08INITIATE" + os.urandom(300))],
    "READY before HELLO": [greeting(b"CURVE"), command(b"\x05READY" + bytes(30))],
    "a command without an end": [greeting(b"CURVE"), b"\x06" + b"\x7f" + b"\xff" * 7 + bytes(500)],
    "a message before a handshake": [greeting(b"CURVE"), b"\x00\x05hello"],
    "an honest HELLO, and no more": ["greeting", "hello"],
    "HELLO twice": ["greeting", "hello", "hello"],
    "INITIATE of junk": ["greeting", "hello", command(b"\x08INITIATE" + os.urandom(400))],
    "INITIATE of another connection": ["greeting", "hello", "initiate"],
    "a message after HELLO": ["greeting", "hello", b"\x00\x05hello"],
}

#: Connections of each sort at the same time.
AT_ONCE = 10


def test_nobody_comes_in_by_half_a_handshake_a_false_one_or_one_of_others(cluster, maths, caplog):
    endpoint, key, settings = maths
    replayed = dict(zip(("greeting", "hello", "initiate"), handshake_of(endpoint, new_node_keys(), key), strict=True))
    honest_call(settings)
    process = psutil.Process()
    before = process.memory_info().rss, process.num_fds()

    with ExitStack() as stack:
        attackers = []
        for what, pieces in PIECES.items():
            for _ in range(AT_ONCE):
                raw = stack.enter_context(closing(connect(endpoint)))
                raw.setblocking(False)
                attackers.append((what, raw))
                for piece in pieces:
                    try:
                        raw.send(replayed.get(piece, piece) if isinstance(piece, str) else piece)
                    except OSError:
                        pass  # It was thrown out already.
        honest_call(settings)
        grown = process.memory_info().rss - before[0]

        let_go = {}
        for what, raw in attackers:
            until(lambda raw=raw: has_ended(raw), 60)
            let_go[what] = let_go.get(what, 0) + 1

    assert let_go == dict.fromkeys(PIECES, AT_ONCE)
    assert grown < 50 * MEGABYTE
    until(lambda: process.num_fds() < before[1] + 20, 30)
    honest_call(settings)
    until(lambda: lines_of(caplog, endpoint))
    assert "its handshake failed" in lines_of(caplog, endpoint)[0]
    assert len(lines_of(caplog, endpoint)) < 10


def lines_of(caplog, endpoint):
    return [record.getMessage() for record in caplog.records if f"a peer at {endpoint}" in record.getMessage()]


def test_an_honest_client_comes_in_during_a_flood_of_handshakes(cluster, start, caplog):
    """More than handshakes_per_second, of peers with right keys and with wrong ones."""

    class Flooded(Maths):
        name = "flooded"

    start(Flooded, {**cluster.node("server", serves="flooded"), "handshakes_per_second": 5, "HEARTBEAT": 5})
    settings = cluster.node("client", calls="flooded")
    with open_directory(cluster.registry.url, namespace=None, keys=Keys.read(cluster.keys("reader"))) as directory:
        until(lambda: directory.service("flooded"), 30)
        record = directory.service("flooded")[0].record
    endpoint, key = record.endpoints["rpc"], bytes.fromhex(record.public_key)

    with zmq.Context() as context, ExitStack() as stack:
        for number in range(35):
            raw = stack.enter_context(context.socket(zmq.DEALER))
            pair = new_node_keys()
            raw.linger = 0
            raw.reconnect_ivl = -1
            raw.curve_publickey, raw.curve_secretkey = pair.public, pair.private
            raw.curve_serverkey = key if number % 7 else new_node_keys().public
            raw.connect(endpoint)
        with ServiceRpcProxy("flooded", settings, timeout=60) as client:
            assert client.add(2, 3) == 5
        until(lambda: any("put off" in record.getMessage() for record in caplog.records))


# --- after a key is proven: certificates ---------------------------------------------------------------------------------


def hello(certificate):
    return Hello(MAJOR, MINOR, "stranger", "default", None if certificate is None else {"certificate": certificate})


def fields_of(pair, **changes):
    now = time.time()
    return {
        "name": "mallory", "key": pair.public, "serial": "m1", "from": now, "until": now + 3600, "serves": [], "calls": ["*"],
        "publishes": [], "handles": [], "registers": [], "administers": [], "registry": False, **changes,
    }  # fmt: skip


def by(authority, packed):
    """A certificate as the authority would sign it, whatever it says."""
    return SignedCertificate(packed, authority.public, sign(authority, "zmqservices certificate 1", packed)).to_bytes()


def nested(depth):
    return b"\x91" * depth + b"\xc0"


DEEP = reduce(lambda inner, _: [inner], range(400), [])

#: Certificates, most of which nobody but an authority that went wrong could sign, and what the peer is told.
CERTIFICATES = {
    "a megabyte": (lambda pair, own, authority: b"x" * MEGABYTE, "came before a HELLO, which takes"),
    "nested deep": (lambda pair, own, authority: nested(2_000), "certificate"),
    "nested deep and signed": (lambda pair, own, authority: by(authority, nested(2_000)), "certificate"),
    "a list nested in its patterns": (
        lambda pair, own, authority: by(authority, msgpack.packb(fields_of(pair, calls=DEEP))),
        "calls of",
    ),
    "many patterns": (
        lambda pair, own, authority: by(authority, msgpack.packb(fields_of(pair, calls=["x" * 200] * 100))), "8,192 bytes",
    ),
    "a name of two lines": (
        lambda pair, own, authority: by(authority, msgpack.packb(fields_of(pair, name="a\nERROR root: forged"))), "name of",
    ),
    "a pattern of two lines": (
        lambda pair, own, authority: by(authority, msgpack.packb(fields_of(pair, calls=["maths\n*"]))), "calls of",
    ),
    "a key of another kind": (
        lambda pair, own, authority: by(authority, msgpack.packb(fields_of(pair, key="*"))), "key of",
    ),
    "of another key": (lambda pair, own, authority: own.signed, "is for the key"),
    "signed by itself": (lambda pair, own, authority: by(own.signing, msgpack.packb(fields_of(pair))), "not trusted here"),
    "nothing": (lambda pair, own, authority: None, "it shows no certificate"),
}  # fmt: skip


@contextmanager
def stranger(maths, pair):
    with Stranger(maths[0], pair, maths[1]) as peer:
        assert peer.is_connected()
        yield peer


@pytest.mark.parametrize("what", CERTIFICATES)
def test_a_certificate_that_is_none_gets_nobody_in(cluster, maths, what, caplog):
    make, text = CERTIFICATES[what]
    pair = new_node_keys()
    certificate = make(pair, Keys.read(cluster.keys("own", calls="maths")), cluster.authority._keys)

    with stranger(maths, pair) as peer:
        peer.say(hello(certificate), Call(1, "maths", "add", [2, 3]))
        refusal, call = peer.hear(), peer.hear()

    assert (type(refusal), refusal.id) == (Error, None)
    assert text in refusal.error["value"]
    assert len(refusal.error["value"]) < 1_000
    assert (type(call), call.id, call.error["code"]) == (Error, 1, "protocol")
    assert not any("\nERROR" in record.getMessage() for record in caplog.records)


def heard(peer, count):
    """The next messages. Those that left together are told apart."""
    found = []
    while len(found) < count:
        message = peer.hear()
        found += map(message_of, message.messages) if type(message) is Batch else [message]
    return found


def test_a_second_certificate_does_not_add_to_the_first(cluster, maths):
    first = Keys.read(cluster.keys("first", calls="maths"))
    other = Keys.read(cluster.keys("other", calls="*"))

    with stranger(maths, first.pair) as peer:
        peer.say(hello(first.signed), hello(other.signed), Call(1, "maths", "add", [2, 3]), Call(2, "events:maths", "stats", []))
        welcome, refusal, *answers = heard(peer, 4)

    assert (type(welcome), type(refusal)) == (Welcome, Error)
    assert "is for the key" in refusal.error["value"]
    result, forbidden = sorted(answers, key=lambda answer: answer.id)
    assert result == Result(1, 5)
    assert forbidden.error["code"] == "forbidden"


def test_a_revoked_peer_that_comes_again_and_again_is_refused_each_time_and_told_now_and_then(cluster, maths, caplog):
    revoked = Keys.read(cluster.keys("revoked", calls="maths"))
    cluster.authority.revoke(revoked.certificate.name)
    settings = {**cluster.node("knows", serves="knows", calls="maths.add"), **PATIENT}

    class Knows(Maths):
        name = "knows"

    container = ServiceContainer(Knows, settings)
    container.start()
    try:
        with open_directory(cluster.registry.url, namespace=None, keys=Keys.read(cluster.keys("reader"))) as directory:
            until(lambda: directory.service("knows"), 30)
            record = directory.service("knows")[0].record
        door = record.endpoints["rpc"], bytes.fromhex(record.public_key)
        for _ in range(15):
            with stranger(door, revoked.pair) as peer:
                peer.say(hello(revoked.signed))
                assert "was revoked" in peer.hear().error["value"]
    finally:
        container.stop()

    # Once a minute.
    assert 1 <= len([record for record in caplog.records if "was revoked" in record.getMessage()]) < 5


def test_a_peer_that_says_hello_without_end_is_not_heard(cluster, maths):
    with stranger(maths, new_node_keys()) as peer:
        peer.say(*[hello(None)] * 100)
        answers = []
        while not answers or "max_faults_per_second" not in answers[-1].error["value"]:
            answers.append(peer.hear())
            gevent.sleep(0)

    assert len(answers) == 22
    honest_call(maths[2])


def test_a_peer_with_a_key_and_no_certificate_is_let_go_at_a_service_and_at_a_registry(cluster, start):
    """Any pair of keys passes the handshake. Silence, PINGs, and HELLOs that are refused keep no connection."""

    class Quiet(Maths):
        name = "quiet"

    start(Quiet, {**cluster.node("server", serves="quiet"), "hello_timeout": 1})
    settings = cluster.node("client", calls="quiet")
    with open_directory(cluster.registry.url, namespace=None, keys=Keys.read(cluster.keys("reader"))) as directory:
        until(lambda: directory.service("quiet"), 30)
        record = directory.service("quiet")[0].record
    door = record.endpoints["rpc"], bytes.fromhex(record.public_key)
    closed = RegistryServer(
        "tcp://127.0.0.1:0", keys=Keys.read(cluster.folder / "registry"), limits=RegistryLimits(hello_timeout=1)
    )
    closed.start()
    try:
        closed.wait_bound(60.0)
        with ServiceRpcProxy("quiet", settings) as client, ExitStack() as stack:
            assert client.add(2, 3) == 5
            peers = [stack.enter_context(stranger(door, new_node_keys())) for _ in range(3)]
            peers.append(stack.enter_context(stranger((closed.url, closed._keys.pair.public), new_node_keys())))
            peers[1].say(hello(None))
            end = time.monotonic() + 30
            while not all(peer.has_ended() for peer in peers):
                assert time.monotonic() < end
                peers[2].say(Ping(1))
                gevent.sleep(0.05)

            assert client.add(2, 3) == 5
    finally:
        closed.stop(blocking=True)
