"""Every attack on the door of a closed service and of a closed registry: nothing is accepted, and the log there says why.

A table: who comes, and what the operator of each reads.
"""

import time
from dataclasses import replace

import pytest

from discovery import open_directory, protocol
from discovery.security.authority import Authority
from discovery.security.certificates import Certificate, issue
from discovery.security.keys import Keys
from discovery.security.signing import new_node_keys
from tests.discovery.stage import eventually
from tests.security.stage import Stranger
from tests.security.test_closed_directory import Peer
from tests.stage import until
from zmqservices.rpc import rpc
from zmqservices.wire.messages import MAJOR, MINOR, Error, Hello


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b


@pytest.fixture(autouse=True)
def each_line(monkeypatch):
    """Each refusal has a line, not one in a minute."""
    monkeypatch.setattr("zmqservices.transport.faults.LOG_INTERVAL", -1.0)
    monkeypatch.setattr("discovery.server.request_guard.FORBIDDEN_INTERVAL", -1.0)
    monkeypatch.setattr("discovery.server.handshakes.LOG_INTERVAL", 0.0)


@pytest.fixture
def door(cluster, start):
    """The address and the public key of a service."""
    start(Maths, cluster.node("maths", serves="maths"))
    with open_directory(cluster.registry.url, namespace=None, keys=Keys.read(cluster.keys("reader"))) as directory:
        found = until(lambda: directory.service("maths"), 20) or directory.service("maths")
    record = max((one.record for one in found), key=lambda one: one.incarnation)
    return record.endpoints["rpc"], bytes.fromhex(record.public_key)


class Attackers:
    """Keys of those who come, and the certificate that each shows."""

    def __init__(self, cluster, folder):
        self._cluster, self._folder = cluster, folder
        self._any = Keys.read(cluster.keys("any", calls="*", registers="*"))

    def _with(self, pair, signed):
        return replace(self._any, pair=pair, signed=signed)

    def _signed(self, pair, starts, ends):
        now = time.time()
        certificate = Certificate("mallory", pair.public, "m1", now + starts, now + ends, calls=("*",), registers=("*",))
        return self._with(pair, issue(certificate, self._cluster.authority._keys).to_bytes())

    def without_a_certificate(self):
        return self._with(new_node_keys(), None)

    def with_a_certificate_of_another_cluster(self):
        other = Keys.read(Authority.create(self._folder / "other").issue("x", {"calls": ("*",), "registers": ("*",)}))
        return self._with(other.pair, other.signed)

    def with_an_expired_certificate(self):
        return self._signed(new_node_keys(), -900, -600)

    def with_a_certificate_that_does_not_hold_yet(self):
        return self._signed(new_node_keys(), 600, 900)

    def with_a_certificate_for_another_key(self):
        return self._with(new_node_keys(), self._any.signed)

    def with_a_revoked_certificate(self):
        revoked = Keys.read(self._cluster.keys("revoked", calls="*", registers="*"))
        self._cluster.authority.revoke(revoked.certificate.name)
        return revoked


@pytest.fixture
def attackers(cluster, tmp_path):
    return Attackers(cluster, tmp_path)


SHOWN = [
    ("without_a_certificate", "it shows no certificate"),
    ("with_a_certificate_of_another_cluster", "which is not trusted here"),
    ("with_an_expired_certificate", "of 'mallory' ended "),
    ("with_a_certificate_that_does_not_hold_yet", "of 'mallory' holds only in "),
    ("with_a_certificate_for_another_key", "is for the key"),
    ("with_a_revoked_certificate", "was revoked"),
]


@pytest.mark.parametrize(("who", "reason"), SHOWN)
def test_a_service_refuses_who_shows_what_does_not_hold(cluster, attackers, start, who, reason, caplog, request):
    # First, so that the service knows by its own folder what was revoked.
    keys = getattr(attackers, who)()
    endpoint, key = request.getfixturevalue("door")

    with Stranger(endpoint, keys.pair, key) as stranger:
        assert stranger.is_connected()
        stranger.say(Hello(MAJOR, MINOR, "mallory", "default", keys.signed and {"certificate": keys.signed}))
        answer = stranger.hear()

    assert type(answer) is Error and answer.error["code"] == "forbidden"
    assert "its HELLO is refused: " in caplog.text and reason in caplog.text


@pytest.mark.parametrize(("who", "reason"), SHOWN)
def test_a_registry_refuses_who_shows_what_does_not_hold(cluster, attackers, who, reason, caplog):
    keys = getattr(attackers, who)()
    # It looks at its folder each second.
    eventually(lambda: who != "with_a_revoked_certificate" or cluster.registry._keys.refusal_of(keys.signed))
    with Peer(cluster.registry, keys, presents=False) as peer:
        if keys.signed:
            assert reason in peer.ask(protocol.Present(keys.signed)).reason
        assert isinstance(peer.ask(protocol.Subscribe(None)), protocol.Refused)

    eventually(lambda: "forbidden; the last from 127.0.0.1: " in caplog.text)
    assert ("it has shown no certificate" if keys.signed is None else reason) in caplog.text


@pytest.mark.parametrize("pairs", [None, "wrong"], ids=["plain ZMTP", "another server's key"])
def test_handshakes_that_fail_are_told_by_the_service(door, pairs, caplog):
    keys = () if pairs is None else (new_node_keys(), new_node_keys().public)

    with Stranger(door[0], *keys) as stranger:
        assert not stranger.is_connected()

    until(lambda: "its handshake failed: it does not encrypt, or it expects another key here" in caplog.text, 20)


@pytest.mark.parametrize("pairs", [None, "wrong"], ids=["plain ZMTP", "another server's key"])
def test_handshakes_that_fail_are_told_by_the_registry(cluster, pairs, caplog):
    keys = () if pairs is None else (new_node_keys(), new_node_keys().public)

    with Stranger(cluster.registry.url, *keys) as stranger:
        assert not stranger.is_connected()

    eventually(lambda: f"failed so far at {cluster.registry.url}: a peer does not encrypt (SECURITY)" in caplog.text)


def test_a_registry_that_stops_leaves_no_monitor(cluster):
    from discovery.server.registry_server import RegistryServer

    registry = RegistryServer("tcp://127.0.0.1:0", keys=Keys.read(cluster.folder / "registry"))
    registry.start()
    registry.wait_bound(20)
    with Stranger(registry.url) as stranger:
        assert not stranger.is_connected()

    assert registry.stop(20, blocking=True)


def test_processes_that_share_a_key_may_show_their_certificates_one_after_the_other(cluster):
    """One of them still shows a certificate that has ended; the other one's holds, and is not forgotten."""
    shared = Keys.read(cluster.keys("shared", registers="maths"))
    with Peer(cluster.registry, shared) as renewed, Peer(cluster.registry, shared, presents=False) as late:
        assert renewed.hear(lambda answer: True, 0.0) is None
        now = time.time()
        old = Certificate(shared.certificate.name, shared.pair.public, "o1", now - 900, now - 600, registers=("maths",))
        ended = issue(old, cluster.authority._keys).to_bytes()
        assert "ended" in late.ask(protocol.Present(ended)).reason

        renewed.say(protocol.Subscribe(None))

        assert renewed.hear(lambda answer: isinstance(answer, protocol.Snapshot))
