"""A closed cluster whose nodes DNS names: the URL has their keys, and DNS is trusted with nothing."""

import shutil
from contextlib import ExitStack, closing

import pytest
from gevent.event import Event

from discovery import Record, open_directory
from discovery.client.node_proof import NodeProof
from discovery.exceptions import DirectoryConfigurationError
from discovery.security.authority import Authority
from discovery.security.envelopes import own_id
from discovery.security.keys import Keys
from discovery.security.renewal import KeysFolderWatch, learn, lists_of
from discovery.security.verdicts import Refusal
from tests.discovery.dns_server import DnsServer
from tests.discovery.nodes import AnsweringNode
from tests.discovery.stage import Watch, eventually, knows
from tests.ports import free_port
from tests.security.stage import Stranger
from tests.stage import until
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.wire.messages import Error, Hello


@pytest.fixture(scope="module")
def server():
    with closing(DnsServer()) as server:
        server.set("shop.test", "A", "127.0.0.1", ttl=30)
        yield server


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def keys(cluster):
    def keys(name="node", **permissions):
        return Keys.read(cluster.keys(name, **permissions))

    return keys


@pytest.fixture
def node(stack):
    """A node with one instance of `maths`, as its keys would have it unless something else is said."""

    def node(keys, certificate=None, **fields):
        return stack.enter_context(AnsweringNode("n1", own(keys, **fields), keys=keys, certificate=certificate))

    return node


@pytest.fixture
def opened(stack, server, keys):
    """A directory of the node's name, whose URL names these keys, and its views."""

    def opened(port, *named, own=None):
        text = ",".join(one if isinstance(one, str) else one.pair.public.hex() for one in named)
        url = f"dns://shop.test:{port}?server={server.address}#{text}"
        return Watch(stack.enter_context(open_directory(url, keys=own or keys("reader"), ttl=1.0)))

    return opened


def own(keys, **fields):
    told = {"public_key": keys.pair.public.hex(), "service": "maths", "node": "n1", "endpoints": {"rpc": "tcp://0.0.0.0:1"}}
    return Record(**{"instance": own_id(keys, "one"), **told, **fields})


def said(caplog, text):
    return eventually(lambda: text in caplog.text)


OTHER = "ab" * 32


# --- the URL ---


@pytest.mark.parametrize("url", ["dns://a.test:1", "dns+srv://_a._tcp.test", "tcp://127.0.0.1:1,dns://a.test:1?server=127.0.0.1"])
def test_a_url_without_a_key_is_refused_with_the_mend(keys, url):
    with pytest.raises(DirectoryConfigurationError, match="names no key.*add #KEY at the end, as `zmqservices keys show --key"):
        open_directory(url, keys=keys())


@pytest.mark.parametrize("text", ["", "12", OTHER.upper(), f"{OTHER},", f"{OTHER}?server=127.0.0.1"])
def test_a_key_that_is_none_is_quoted(keys, text):
    with pytest.raises(DirectoryConfigurationError, match="names the key '.*'; 64 hex digits are needed, as `zmqservices keys"):
        open_directory(f"dns://shop.test:4000#{text}", keys=keys())


def test_keys_are_few_and_not_for_an_open_process(keys):
    with pytest.raises(DirectoryConfigurationError, match="names 17 keys, .*; 16 are the most"):
        open_directory("dns://shop.test:4000#" + ",".join(f"{number:064x}" for number in range(17)), keys=keys())
    with pytest.raises(DirectoryConfigurationError, match="its nodes take encrypted connections only; set SECURITY"):
        open_directory(f"dns://shop.test:4000#{OTHER}")


# --- who is believed ---


def test_a_node_with_the_key_and_a_certificate_is_used_and_keys_are_tried_in_turn(keys, node, opened, caplog):
    maths = keys("maths", serves="maths")
    there = node(maths)

    seen = opened(there.port, OTHER, maths)

    view = seen.wait(knows(own_id(maths, "one")))
    (found,) = view.records.values()
    # A call goes to the address that DNS told, and to nobody but the holder of this key.
    assert found.record.endpoints["rpc"] == there.endpoint
    assert found.record.public_key == maths.pair.public.hex()
    assert there.hellos[0].info["certificate"]
    assert "is not used" not in caplog.text


def test_a_directory_is_ready_when_each_node_has_been_tried_with_each_key(stack, server, keys, cluster):
    first, last = keys("first", serves="maths"), keys("last", serves="maths")
    port = free_port()
    server.set("two.test", "A", "127.0.0.6", "127.0.0.7", ttl=30)
    for held, host in ((first, "127.0.0.6"), (last, "127.0.0.7")):
        stack.enter_context(AnsweringNode("n1", own(held), host=host, port=port, keys=held))
    tried = [first.pair.public.hex(), *(f"{number:02x}" * 32 for number in range(1, 8)), last.pair.public.hex()]

    url = f"dns://two.test:{port}?server={server.address}#{','.join(tried)}"
    directory = stack.enter_context(open_directory(url, keys=keys("reader"), ttl=1.0))

    assert directory.wait_ready(30.0)
    assert directory.view().records.keys() == {own_id(first, "one"), own_id(last, "one")}


def test_a_node_behind_two_names_may_hold_a_key_of_either(stack, server, keys, caplog):
    maths = keys("maths", serves="maths")
    there = stack.enter_context(AnsweringNode("n1", own(maths), keys=maths))
    server.set("words.test", "A", "127.0.0.1", ttl=30)
    names = ((name, key) for name, key in (("shop", OTHER), ("words", maths.pair.public.hex())))
    urls = [f"dns://{name}.test:{there.port}?server={server.address}#{key}" for name, key in names]

    for ordered in (urls, urls[::-1]):
        with open_directory(",".join(ordered), keys=keys("reader"), ttl=1.0) as directory:
            Watch(directory).wait(knows(own_id(maths, "one")))


def test_who_holds_none_of_the_keys_is_refused_with_the_reason(keys, node, opened, caplog):
    there = node(keys("maths", serves="maths"))

    seen = opened(there.port, OTHER, "cd" * 32)

    said(caplog, "is not used: the handshake failed: it does not encrypt with any of the 2 keys that the directory URL names (ab")
    assert not there.hellos and not any(view.records for view in seen.views)


def test_a_node_that_does_not_encrypt_is_refused(stack, keys, opened, caplog):
    maths = keys("maths", serves="maths")
    there = stack.enter_context(AnsweringNode("n1", own(maths)))

    opened(there.port, maths)

    said(caplog, "is not used: the handshake failed: it does not encrypt with the key")
    assert not there.hellos


def test_the_certificate_has_to_be_of_the_authority_and_for_that_key(cluster, keys, node, opened, caplog, tmp_path):
    maths = keys("maths", serves="maths")
    theirs = Keys.read(Authority.create(tmp_path / "theirs").issue("maths", {"serves": ("maths",), "registers": ("maths",)}))
    revoked = keys("revoked", serves="maths")
    cluster.authority.revoke(revoked.certificate.name)
    reader = keys("reader")
    assert revoked.certificate.name in str(reader.refusal_of(revoked.signed))
    for there, why in (
        (node(maths, certificate=keys("thief", serves="maths").signed), "is for the key"),
        (node(theirs), "which is not trusted here"),
        (node(revoked), "was revoked"),
        (node(maths, certificate=b"junk"), "is not used: "),
    ):
        caplog.clear()
        seen = opened(there.port, there.keys, own=reader)

        said(caplog, why)
        assert "is not used: " in caplog.text
        assert not any(view.records for view in seen.views)


def test_records_that_are_not_the_nodes_are_passed_over(keys, node, opened, caplog):
    maths, other = keys("maths", serves="maths"), keys("other", serves="words")
    there = node(maths, service="words")
    seen = opened(there.port, maths)
    said(caplog, "skipped a record of the node")
    assert "'words'" in caplog.text and maths.certificate.name in caplog.text

    there.list(own(maths, public_key=other.pair.public.hex()), own(maths, instance=own_id(other, "x")), own(maths))

    seen.wait_now(knows(own_id(maths, "one")))
    assert "it names the key" in caplog.text and "its id does not begin with" in caplog.text


def test_a_node_that_is_revoked_later_leaves_the_view_and_its_own_new_certificate_is_shown(
    cluster, keys, node, opened, caplog, monkeypatch
):
    maths, reader = keys("maths", serves="maths"), keys("reader")
    monkeypatch.setattr("discovery.client.node_connection.LOOK_INTERVAL", 0.1)
    there = node(maths)
    seen = opened(there.port, maths, own=reader)
    seen.wait(knows(own_id(maths, "one")))

    cluster.authority.renew(reader.certificate.name, 2)
    assert KeysFolderWatch(reader).look()
    eventually(lambda: there.hellos[-1].info.get("renews") and there.hellos[-1].info["certificate"] == reader.signed)

    cluster.authority.revoke(maths.certificate.name)
    assert learn(reader, lists_of(Keys.read(cluster.folder / "registry")))

    said(caplog, f"{maths.certificate.name!r} was revoked")
    seen.wait_now(knows())


def test_a_process_that_only_reads_passes_on_lists_that_a_node_lacks(cluster, keys, stack, opened, monkeypatch):
    monkeypatch.setattr("discovery.client.node_connection.LOOK_INTERVAL", 0.1)
    maths, reader = keys("maths", serves="maths"), keys("reader")
    info = {"records": [own(maths).to_dict()], "revocations": {}}
    there = stack.enter_context(AnsweringNode("n1", info=info, keys=maths))
    opened(there.port, maths, own=reader).wait(knows(own_id(maths, "one")))

    cluster.authority.revoke(keys("thief").certificate.name)
    [signed] = lists_of(Keys.read(cluster.folder / "registry"))
    assert learn(reader, [signed])

    eventually(lambda: there.hellos[-1].info.get("revoked") == [signed])
    assert there.hellos[-1].info["renews"]


def test_a_node_that_shows_a_bad_certificate_later_leaves_the_view_and_is_asked_again(keys, node, opened, caplog, monkeypatch):
    maths = keys("maths", serves="maths")
    monkeypatch.setattr("discovery.client.node_connection.LOOK_INTERVAL", 0.1)
    monkeypatch.setattr("discovery.client.node_connection.REFUSED_PAUSE", 0.1)
    there = node(maths)
    seen = opened(there.port, maths)
    seen.wait(knows(own_id(maths, "one")))

    there.certificate = keys("other", serves="maths").signed
    for bad in [there._welcome()] * 3:
        there.tell(bad)
    said(caplog, "is for the key")
    seen.wait_now(knows())

    # No message tells the reader that the node shows a good one again.
    there.certificate = maths.signed
    seen.wait_now(knows(own_id(maths, "one")))
    assert len(there.hellos) > 1


def test_each_key_is_tried_once_and_then_there_is_a_pause(keys):
    proof = NodeProof(keys(), (b"1" * 32, b"2" * 32, b"3" * 32))

    tried = [(proof.key[:1], proof.try_next_key()) for _ in range(4)]

    assert tried == [(b"1", True), (b"2", True), (b"3", False), (b"1", True)]


def test_the_key_that_was_proven_is_tried_first(keys):
    maths = keys("maths", serves="maths")
    proof = NodeProof(keys(), (b"1" * 32, maths.pair.public))
    proof.try_next_key()

    proof.believe(maths.signed)

    assert proof.key == maths.pair.public
    proof.try_next_key()
    with pytest.raises(Refusal, match="is for the key"):
        proof.believe(maths.signed)


# --- services ---


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b


def test_a_service_behind_a_name_is_called_and_asks_for_certificates_too(cluster, server, start, caplog):
    port, folder = free_port(), cluster.keys("maths", serves="maths")
    key = Keys.read(folder).pair.public
    where = {"DIRECTORY": f"dns://shop.test:{port}?server={server.address}#{key.hex()}", "rpc_wait_for_service": 30}
    start(Maths, {**cluster.settings(folder), **where, "BIND_ADDRESS": f"tcp://127.0.0.1:{port}"})

    with ServiceRpcProxy("maths", {**cluster.node("client", calls="maths"), **where}) as client:
        assert client.add(2, 3) == 5

    # Who asks for records shows a certificate first.
    pair = Keys.read(cluster.keys("asker")).pair
    with Stranger(f"tcp://127.0.0.1:{port}", pair, key) as stranger:
        assert stranger.is_connected()
        stranger.say(Hello(1, 0, "me", "default", {"records": True}))
        answer = stranger.hear()
    assert isinstance(answer, Error) and answer.error["code"] == "forbidden"
    assert "shows no certificate" in caplog.text


class Orders:
    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def pay(self, number):
        self.dispatch("paid", number)


def test_events_pass_between_nodes_with_keys_of_their_own_behind_one_name(cluster, server, start):
    heard = Event()

    class Mails:
        name = "mails"

        @event_handler("orders", "paid")
        def send(self, payload):
            heard.set()

    port = free_port()
    orders = cluster.keys("orders", serves="orders", publishes="orders")
    folders = [orders, cluster.keys("mails", serves="mails", handles="orders")]
    named = ",".join(Keys.read(folder).pair.public.hex() for folder in folders)
    server.set("both.test", "A", "127.0.0.2", "127.0.0.3", ttl=30)
    where = {"DIRECTORY": f"dns://both.test:{port}?server={server.address}#{named}", "rpc_wait_for_service": 30}
    for service, folder, host in zip((Orders, Mails), folders, ("127.0.0.2", "127.0.0.3"), strict=True):
        start(service, {**cluster.settings(folder), **where, "BIND_ADDRESS": f"tcp://{host}:{port}"})

    with ServiceRpcProxy("orders", {**cluster.node("client", calls="orders"), **where}) as client:
        # Before the handler has subscribed, the publisher knows of no group that waits for events.
        until(lambda: client.pay(7) or heard.wait(0.1), 60)


def test_what_is_revoked_travels_from_node_to_node(cluster, server, start, tmp_path, caplog):
    class Words(Maths):
        name = "words"

    names = {"maths": Maths, "words": Words}
    # What the authority does reaches only the folder to which it is copied.
    folders = {name: shutil.copytree(cluster.keys(name, serves=name), tmp_path / name) for name in names}
    for folder in folders.values():
        (folder / "revoked").unlink(missing_ok=True)
    port, named = free_port(), ",".join(Keys.read(folder).pair.public.hex() for folder in folders.values())
    server.set("travel.test", "A", "127.0.0.4", "127.0.0.5", ttl=30)
    url = f"dns://travel.test:{port}?server={server.address}#{named}"
    where = {"DIRECTORY": url, "DIRECTORY_TTL": 1, "rpc_wait_for_service": 30}
    for (name, service), host in zip(names.items(), ("127.0.0.4", "127.0.0.5"), strict=True):
        start(service, {**cluster.settings(folders[name]), **where, "BIND_ADDRESS": f"tcp://{host}:{port}"})

    thief = cluster.keys("thief", calls=("maths", "words"))
    with ServiceRpcProxy("words", {**cluster.settings(thief), **where}) as client:
        assert client.add(2, 3) == 5
        cluster.authority.revoke(thief.name)
        shutil.copy(cluster.authority.folder / "revoked", folders["maths"] / "revoked")

        until(lambda: (folders["words"] / "revoked").exists(), 60)
        # Both know it, and each ends its connections to the thief.
        until(lambda: caplog.text.count(f"cut off {thief.name}, ") >= 2, 60)
