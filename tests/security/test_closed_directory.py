"""The directory of a closed cluster: who may read it, who is listed, and whose record is whose."""

import time
from dataclasses import replace

import pytest
import zmq

from discovery import Record, open_directory, protocol
from discovery.exceptions import DirectoryConfigurationError
from discovery.security.authority import Authority
from discovery.security.keys import Keys
from discovery.security.zap import secure_client
from discovery.server.registry_server import RegistryServer
from tests.discovery.stage import eventually


@pytest.fixture
def keys(cluster):
    def keys(name="node", **permissions):
        return Keys.read(cluster.keys(name, **permissions))

    return keys


@pytest.fixture
def opened(cluster):
    """A directory, opened with these keys."""
    directories = []

    def opened(keys, url=cluster.registry.url):
        directories.append(open_directory(url, keys=keys, ttl=1.0))
        directories[-1].start()
        return directories[-1]

    yield opened
    for directory in directories:
        directory.stop()


class Peer:
    """A connection to a registry, made by hand."""

    def __init__(self, registry, keys=None, server_key=None, presents=True):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        if keys is not None:
            secure_client(self.socket, keys, server_key or keys.registry_key)
        self.socket.connect(registry.url)
        if keys is not None and presents:
            self.say(protocol.Present(keys.signed))

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.context.destroy(linger=0)

    def say(self, message):
        self.socket.send(protocol.encode(message))

    def ask(self, message):
        """The answer to a request; whatever else comes is passed over."""
        self.say(message)
        return self.hear(lambda answer: isinstance(answer, protocol.Ack | protocol.Refused | protocol.Unknown))

    def hear(self, fits, timeout=10.0):
        end = time.monotonic() + timeout
        while self.socket.poll(max(0, int((end - time.monotonic()) * 1000))):
            answer = protocol.decode(self.socket.recv())
            if fits(answer):
                return answer
        return None


def record(keys, service="maths", instance="one", **fields):
    return Record(service, instance, public_key=keys.pair.public.hex(), ttl=30.0, **fields)


def test_nodes_with_certificates_find_each_other(opened, keys):
    node, reader = keys("maths", registers="maths"), keys("reader")
    there, here = opened(node), opened(reader)

    there.announce(record(node, instance="found"))

    eventually(lambda: [seen for seen in here.service("maths") if seen.record.instance == "found"])
    assert here.service("maths")[0].record.public_key == node.pair.public.hex()
    there.withdraw("found")
    eventually(lambda: not here.service("maths"))


def test_a_node_without_keys_learns_nothing_and_is_told_why(cluster, keys, opened):
    directory = opened(None)

    eventually(lambda: "or encrypts its connections (SECURITY)" in (directory.view().registries[0]["error"] or ""))
    assert not directory.wait_ready(0) and not directory.view().records


def test_a_node_with_keys_speaks_to_no_registry_without(keys, opened):
    with_none = RegistryServer("tcp://127.0.0.1:0")
    with_none.start()
    with_none.wait_bound(10)
    try:
        directory = opened(keys("reader"), with_none.url)
        eventually(lambda: "key of this cluster's registries (SECURITY)" in (directory.view().registries[0]["error"] or ""))
        assert with_none.junk == 0
    finally:
        with_none.stop(blocking=True)


def test_a_node_speaks_to_no_registry_of_another_cluster(keys, opened, tmp_path):
    authority = Authority.create(tmp_path / "other")
    other = RegistryServer("tcp://127.0.0.1:0", keys=Keys.read(authority.folder / "registry"))
    other.start()
    other.wait_bound(10)
    try:
        directory = opened(keys("reader"), other.url)
        eventually(lambda: "key of this cluster's registries (SECURITY)" in (directory.view().registries[0]["error"] or ""))
    finally:
        other.stop(blocking=True)


def test_a_key_without_a_certificate_learns_nothing(cluster, keys):
    with Peer(cluster.registry, keys("silent"), presents=False) as peer:
        for message in (protocol.Subscribe(None), protocol.Renew([]), protocol.Register(1, record(keys("x")))):
            answer = peer.ask(message)
            assert isinstance(answer, protocol.Refused)
            assert answer.reason == "forbidden: it has shown no certificate"
        assert peer.hear(lambda answer: isinstance(answer, protocol.Snapshot), 0.3) is None


def test_a_stolen_certificate_is_of_no_use(cluster, keys):
    thief, victim = keys("thief"), keys("victim", registers="maths")
    with Peer(cluster.registry, thief, presents=False) as peer:
        refused = peer.ask(protocol.Present(victim.signed))
        assert "is for the key" in refused.reason
        assert isinstance(peer.ask(protocol.Subscribe(None)), protocol.Refused)


def test_another_clusters_certificate_is_of_no_use(cluster, keys, tmp_path):
    other = Keys.read(Authority.create(tmp_path / "other").issue("node", {"registers": ("*",)}))
    with Peer(cluster.registry, other, keys("any").registry_key, presents=False) as peer:
        assert "which is not trusted here" in peer.ask(protocol.Present(other.signed)).reason


def test_only_what_a_certificate_names_is_listed(cluster, keys, caplog):
    node = keys("maths", registers="maths*", publishes="orders")
    with Peer(cluster.registry, node) as peer:
        for service, is_allowed in (
            ("maths", True), ("maths.eu", True), ("users", False), ("events:orders", True), ("events:users", False),
        ):  # fmt: skip
            answer = peer.ask(protocol.Register(3, record(node, service, f"{service}-1")))
            assert isinstance(answer, protocol.Ack if is_allowed else protocol.Refused), service
        assert "is not among that" in answer.reason


def test_a_record_has_the_key_of_the_connection_that_it_comes_on(cluster, keys):
    node, other = keys("maths", registers="maths"), keys("other")
    with Peer(cluster.registry, node) as peer:
        for forged in (record(other), replace(record(node), public_key=None)):
            assert "another public key" in peer.ask(protocol.Register(1, forged)).reason


def test_a_record_of_another_node_is_neither_replaced_nor_renewed_nor_withdrawn(cluster, keys, opened):
    owner, other, reader = keys("owner", registers="maths"), keys("other", registers="*"), opened(keys("reader"))
    with Peer(cluster.registry, owner) as honest, Peer(cluster.registry, other) as forger:
        own = record(owner, instance="owned", incarnation=5)
        assert isinstance(honest.ask(protocol.Register(1, own)), protocol.Ack)

        stolen = record(other, instance="owned", incarnation=9)
        assert "belongs to another node" in forger.ask(protocol.Register(2, stolen)).reason
        assert "belongs to another node" in forger.ask(protocol.Withdraw(3, "default", "owned", 9, 9)).reason
        assert forger.ask(protocol.Renew([["owned", 5, 0]])) == protocol.Unknown(["owned"])

        eventually(lambda: [seen for seen in reader.service("maths") if seen.record == own])
        assert isinstance(honest.ask(protocol.Withdraw(4, "default", "owned", 5, 1)), protocol.Ack)
        eventually(lambda: not [seen for seen in reader.service("maths") if seen.record.instance == "owned"])


def test_a_withdrawal_of_what_is_not_listed_is_told_to_nobody(cluster, keys):
    # It could be about a record that other registries list.
    with Peer(cluster.registry, keys("listener")) as listener, Peer(cluster.registry, keys("forger", registers="*")) as forger:
        listener.say(protocol.Subscribe(None))
        assert listener.hear(lambda message: isinstance(message, protocol.Snapshot))
        assert isinstance(forger.ask(protocol.Withdraw(1, "default", "elsewhere", 9, 9)), protocol.Ack)
        about = "elsewhere"  # Leases of other tests may end meanwhile.
        assert listener.hear(lambda message: isinstance(message, protocol.Drop) and message.instance == about, 0.5) is None


def test_groups_are_noted_by_those_who_publish_or_handle_their_events(cluster, keys):
    now = int(time.time() * 1e6)

    def note(source, pattern="paid"):
        value = None if pattern is None else {"source": source, "pattern": pattern, "group": "g"}
        return protocol.PutNotes(1, [protocol.Note("default", f"events:{source}\0g", now, 60.0, value)])

    with Peer(cluster.registry, keys("mails", handles="orders.paid")) as handler:
        assert isinstance(handler.ask(note("orders")), protocol.Ack)
        assert isinstance(handler.ask(note("orders", "shipped")), protocol.Refused)
        assert isinstance(handler.ask(note("users")), protocol.Refused)
        assert "removed by those who publish" in handler.ask(note("orders", None)).reason
    with Peer(cluster.registry, keys("orders", publishes="orders")) as publisher:
        assert isinstance(publisher.ask(note("orders", None)), protocol.Ack)
        assert isinstance(publisher.ask(note("users")), protocol.Refused)


def test_a_registry_needs_the_keys_of_a_registry(cluster):
    from click.testing import CliRunner

    from discovery.cli import cli

    found = CliRunner().invoke(cli, ["serve", "--bind", "tcp://127.0.0.1:0", "--security", str(cluster.keys("orders"))])

    assert found.exit_code == 1
    assert "a registry needs those in the folder 'registry'" in found.output


@pytest.mark.parametrize("url", ["dns://shop.example:4000", "etcd://127.0.0.1:2379/shop", "tcp://127.0.0.1:1,etcd://127.0.0.1/x"])
def test_what_cannot_be_closed_is_refused(keys, url):
    with pytest.raises(DirectoryConfigurationError, match="whose records nobody signs, so that it cannot be used with SECURITY"):
        open_directory(url, keys=keys())


def test_no_process_hosts_a_registry_without_the_keys_of_one(keys):
    directory = open_directory("local:", keys=keys())

    assert not directory.capabilities.is_hosted_by_clients
