"""The directory of a closed cluster: which nodes may read it, which are listed, and which may change a record."""

import time
from dataclasses import replace

import pytest
import zmq

from discovery import Note, Record, backend, open_directory, protocol
from discovery.client.verified import VerifiedListener
from discovery.exceptions import DirectoryConfigurationError, DirectoryError
from discovery.security.authority import Authority
from discovery.security.envelopes import Envelope, Signer, own_id
from discovery.security.keys import Keys
from discovery.security.renewal import KeysFolderWatch
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
            secure_client(self.socket, keys, server_key or keys.registry_keys[0])
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
    return Record(service, own_id(keys, instance), public_key=keys.pair.public.hex(), ttl=30.0, **fields)


def signed(keys, service="maths", instance="one", **fields):
    return Signer(keys).record(record(keys, service, instance, **fields))


def withdrawal(keys, of):
    return protocol.Withdraw(9, of.namespace, of.instance, *of.rank, Signer(keys).withdrawal(of))


def test_nodes_with_certificates_find_each_other(opened, keys):
    node, reader = keys("maths", registers="maths"), keys("reader")
    there, here = opened(node), opened(reader)

    there.announce(record(node, instance="found"))

    eventually(lambda: [seen for seen in here.service("maths") if seen.record.instance == own_id(node, "found")])
    assert here.service("maths")[0].record.public_key == node.pair.public.hex()
    there.withdraw(own_id(node, "found"))
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
    with Peer(cluster.registry, other, keys("any").registry_keys[0], presents=False) as peer:
        assert "which is not trusted here" in peer.ask(protocol.Present(other.signed)).reason


def test_only_what_a_certificate_names_is_listed(cluster, keys, caplog):
    node = keys("maths", registers="maths*", publishes="orders")
    with Peer(cluster.registry, node) as peer:
        for service, is_allowed in (
            ("maths", True), ("maths.eu", True), ("users", False), ("events:orders", True), ("events:users", False),
        ):  # fmt: skip
            try:
                one = signed(node, service, f"{service}-1")
            except DirectoryError as exc:
                assert not is_allowed and "must not register" in str(exc)
                one = record(node, service, f"{service}-1")
            answer = peer.ask(protocol.Register(3, one))
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
        own = signed(owner, instance="owned", incarnation=5)
        assert isinstance(honest.ask(protocol.Register(1, own)), protocol.Ack)

        taken = replace(record(other, incarnation=9), instance=own.instance, signed=own.signed)
        assert "the signed record is" in forger.ask(protocol.Register(2, taken)).reason
        assert "another public key" in forger.ask(protocol.Register(2, own)).reason
        later = replace(own, incarnation=9)
        assert "belongs to another node" in forger.ask(withdrawal(other, later)).reason
        assert "belongs to another node" in forger.ask(withdrawal(owner, own)).reason
        assert forger.ask(protocol.Renew([[own.instance, 5, 0]])) == protocol.Unknown([own.instance])

        eventually(lambda: [seen for seen in reader.service("maths") if seen.record == own])
        assert isinstance(honest.ask(withdrawal(owner, own.replace())), protocol.Ack)
        eventually(lambda: not [seen for seen in reader.service("maths") if seen.record.instance == own.instance])


def test_a_signed_withdrawal_of_what_is_not_listed_is_told(cluster, keys):
    # Other registries may list it, or clients know it from before this one was started again.
    node = keys("leaver", registers="*")
    with Peer(cluster.registry, keys("listener")) as listener, Peer(cluster.registry, node) as leaver:
        listener.say(protocol.Subscribe(None))
        assert listener.hear(lambda message: isinstance(message, protocol.Snapshot))
        gone = withdrawal(node, record(node, instance="elsewhere"))

        assert isinstance(leaver.ask(gone), protocol.Ack)

        drop = listener.hear(lambda message: isinstance(message, protocol.Drop) and message.instance == gone.instance)
        assert drop.withdrawn and drop.signed == gone.signed


def test_a_withdrawal_that_is_not_signed_is_refused(cluster, keys):
    node = keys("maths", registers="maths")
    with Peer(cluster.registry, node) as peer:
        own = record(node)
        assert "it is not signed" in peer.ask(protocol.Withdraw(1, "default", own.instance, 0, 0)).reason
        other = Signer(node).withdrawal(replace(own, incarnation=7))
        assert "the signed withdrawal is that of" in peer.ask(protocol.Withdraw(1, "default", own.instance, 8, 0, other)).reason
        assert "it is not signed" in peer.ask(protocol.Register(1, own)).reason


def test_groups_are_noted_by_those_who_publish_or_handle_their_events(cluster, keys):
    now = int(time.time() * 1e6)

    def note(source, pattern="paid", group="g"):
        value = None if pattern is None else {"source": source, "pattern": pattern, "group": group}
        return Note("default", f"events:{source}\0{group}", now, 60.0, value)

    def puts(keys, note):
        return protocol.PutNotes(1, [Signer(keys).note(note)])

    mails = keys("mails", handles="orders.paid", serves="mails")
    with Peer(cluster.registry, mails) as handler:
        assert "it is not signed" in handler.ask(protocol.PutNotes(1, [note("orders")])).reason
        for allowed in (note("orders"), note("orders", group="mails.send:paid"), note("orders", group="orders:paid")):
            assert isinstance(handler.ask(puts(mails, allowed)), protocol.Ack)
        for forbidden in (note("orders", "shipped"), note("users"), note("orders", group="bills.send:paid")):
            assert isinstance(handler.ask(puts(mails, forbidden)), protocol.Refused)
        assert "removed by those who publish" in handler.ask(puts(mails, note("orders", None))).reason
    orders = keys("orders", publishes="orders")
    with Peer(cluster.registry, orders) as publisher, Peer(cluster.registry, keys("idle")) as forwarder:
        assert isinstance(publisher.ask(puts(orders, note("orders", None))), protocol.Ack)
        assert isinstance(publisher.ask(puts(orders, note("users"))), protocol.Refused)
        # What counts is who signed it.
        assert isinstance(forwarder.ask(puts(orders, note("orders", None))), protocol.Ack)


def test_a_registry_needs_the_keys_of_a_registry(cluster):
    from click.testing import CliRunner

    from discovery.cli import cli

    found = CliRunner().invoke(cli, ["serve", "--bind", "tcp://127.0.0.1:0", "--security", str(cluster.keys("orders"))])

    assert found.exit_code == 1
    assert "a registry needs those in the folder 'registry'" in found.output


def test_a_renewed_certificate_travels_with_the_record_that_stands(cluster, opened, keys):
    node = keys("renewed", registers="maths")
    there, reader = opened(node), opened(keys("reader"))
    # Its lease is renewed only after twenty minutes.
    own = replace(record(node, instance="renewed"), ttl=3600.0)
    there.announce(own)

    def certificate():
        for seen in reader.service("maths"):
            if seen.record.instance == own.instance:
                return Envelope.from_bytes(seen.record.signed, "it").certificate
        return None

    former = node.signed
    eventually(lambda: certificate() == former)
    cluster.authority.renew(node.certificate.name, 2)
    assert KeysFolderWatch(node).look() and node.signed != former

    eventually(lambda: certificate() == node.signed)


def test_signed_records_are_listed_as_others_are(cluster, opened, keys):
    from click.testing import CliRunner

    from discovery.cli import cli

    node = keys("maths", registers="maths")
    there = opened(node)
    there.announce(record(node, instance="shown"))
    assert there.flush(15)

    folder = str(cluster.keys("reader"))
    found = CliRunner().invoke(cli, ["list", "--directory", cluster.registry.url, "--security", folder, "--json"])

    assert found.exit_code == 0, found.output
    assert own_id(node, "shown") in found.output and '"signed"' not in found.output


def test_signed_records_come_in_blocks_and_are_verified(cluster, opened, keys, monkeypatch):
    node, given = keys("maths", registers="maths"), []
    there = opened(node)
    for number in range(20):
        there.announce(record(node, instance=f"packed-{number}"))
    assert there.flush(15)
    on_up = VerifiedListener.on_up

    def looked_at(self, connection, snapshot, now):
        given.extend((len(part.entries), len(part.blocks)) for part in snapshot)
        on_up(self, connection, snapshot, now)

    monkeypatch.setattr(VerifiedListener, "on_up", looked_at)

    reader = opened(keys("reader"))

    eventually(lambda: {own_id(node, f"packed-{number}") for number in range(20)} <= reader.view().records.keys())
    assert sum(alone for alone, _ in given) == 0 < sum(blocks for _, blocks in given)
    assert all(seen.record.signed for seen in reader.view().records.values())


def test_a_directory_that_checks_no_signatures_is_refused(keys, monkeypatch):
    monkeypatch.setattr(backend, "_factories", {**backend._factories, "own": lambda url, options: object()})

    with pytest.raises(DirectoryConfigurationError, match="whose kind does not check signatures"):
        open_directory("own:here", keys=keys())


def test_an_engine_needs_no_certificate_of_registries(keys):
    without = replace(keys(), registries=())

    assert open_directory("etcd://127.0.0.1:1/shop", keys=without).capabilities.can_announce
    with pytest.raises(DirectoryConfigurationError, match="has no certificate of the registries"):
        open_directory("tcp://127.0.0.1:1", keys=without)


def test_no_process_hosts_a_registry_without_the_keys_of_one(keys):
    directory = open_directory("local:", keys=keys())

    assert not directory.capabilities.is_hosted_by_clients
