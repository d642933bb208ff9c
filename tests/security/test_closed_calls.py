"""Calls in a closed cluster: which nodes may make and answer them, and how all others are refused."""

import base64
import logging
import time
from dataclasses import replace

import gevent
import pytest
import zmq
from click.testing import CliRunner
from zmq.utils.monitor import recv_monitor_message

from discovery import open_directory
from discovery.security.authority import Authority
from discovery.security.certificates import Certificate, issue
from discovery.security.keys import Keys
from discovery.security.signing import new_node_keys
from tests.security.stage import Stranger
from tests.stage import Context, until
from zmqservices.cli.main import cli
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import ConfigurationError, Forbidden, RemoteUnavailable, UnknownService
from zmqservices.membership import Membership
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.wire.messages import MAJOR, MINOR, Call, Error, Hello, Result


class Maths:
    name = "maths"
    context = Context()

    @rpc
    def add(self, a, b):
        return a + b

    @rpc
    def subtract(self, a, b):
        return a - b

    @rpc
    def who(self):
        return self.context.peer


@pytest.fixture
def maths(cluster, start):
    return start(Maths, cluster.node("maths", serves="maths"))


def test_what_a_certificate_names_is_called_and_nothing_else(cluster, maths):
    with ServiceRpcProxy("maths", cluster.node("client", calls=("maths.add", "maths.who"))) as client:
        assert client.add(2, 3) == 5
        with pytest.raises(Forbidden) as caught:
            client.subtract(3, 2)

    assert "maths.subtract is forbidden to 'client-" in str(caught.value)
    assert "calls 'maths.add', 'maths.who', and 'maths.subtract' is not among that" in str(caught.value)
    assert not caught.value.retryable


def test_the_worker_knows_its_caller_by_name(cluster, maths):
    settings = cluster.node("alice", calls="maths")

    with ServiceRpcProxy("maths", settings) as client:
        assert client.who().startswith("alice-")


# --- peers that are refused -----------------------------------------------------------------------------------------------


@pytest.fixture
def door(cluster, maths):
    """Endpoint and public key of the service."""
    with open_directory(cluster.registry.url, namespace=None, keys=Keys.read(cluster.keys("reader"))) as directory:
        assert directory.wait_ready(10)
        until(lambda: directory.service("maths"))
        record = directory.service("maths")[0].record
    return record.endpoints["rpc"], bytes.fromhex(record.public_key)


def hello(info=None):
    return Hello(MAJOR, MINOR, "stranger", "default", info)


def refusal_of(door, pair, info):
    """What a peer with these keys gets for its HELLO. Its calls are refused as well."""
    endpoint, key = door
    with Stranger(endpoint, pair, key) as stranger:
        assert stranger.is_connected()
        stranger.say(hello(info), Call(1, "maths", "add", [2, 3]))
        refused, call = stranger.hear(), stranger.hear()
    assert type(refused) is type(call) is Error
    assert refused.id is None and refused.error["code"] == "forbidden"
    assert call.id == 1 and call.error["code"] == "protocol"
    return refused.error["value"]


def signed_by(cluster, pair, **changes):
    now = time.time()
    certificate = Certificate("forger", pair.public, "f1", now, now + 3600, calls=("*",))
    return {"certificate": issue(replace(certificate, **changes), cluster.authority._keys).to_bytes()}


def test_a_peer_without_encryption_gets_no_connection(door):
    with Stranger(door[0]) as stranger:
        assert not stranger.is_connected()


def test_a_peer_that_expects_another_server_gets_no_connection(door):
    with Stranger(door[0], new_node_keys(), new_node_keys().public) as stranger:
        assert not stranger.is_connected()


def test_a_handshake_does_not_wait_for_a_hub_that_stands_still(door):
    with Stranger(door[0], new_node_keys(), door[1]) as stranger:
        # The service runs on the hub of this thread, which does not turn here.
        while stranger._monitor.poll(30_000):
            event = recv_monitor_message(stranger._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return
    raise AssertionError("no handshake")


def test_a_key_without_a_certificate_is_refused(door):
    assert "it shows no certificate" in refusal_of(door, new_node_keys(), None)


def test_a_certificate_for_another_key_is_refused(cluster, door):
    stolen = Keys.read(cluster.keys("victim", calls="*"))

    assert "is for the key" in refusal_of(door, new_node_keys(), {"certificate": stolen.signed})


def test_another_clusters_certificate_is_refused(door, tmp_path):
    other = Keys.read(Authority.create(tmp_path / "other").issue("client", {"calls": ("*",)}))

    assert "which is not trusted here" in refusal_of(door, other.pair, {"certificate": other.signed})


def test_a_certificate_is_refused_before_and_after_its_time(cluster, door):
    pair, now = new_node_keys(), time.time()

    assert "holds only in" in refusal_of(door, pair, signed_by(cluster, pair, starts=now + 600))
    assert "ended" in refusal_of(door, pair, signed_by(cluster, pair, starts=now - 900, ends=now - 600))


def test_a_revoked_certificate_is_refused(cluster, start, container_factory):
    folder = cluster.keys("server", serves="guarded")
    client = Keys.read(cluster.keys("client", calls="guarded"))
    cluster.authority.revoke(client.certificate.name)

    class Guarded(Maths):
        name = "guarded"

    start(Guarded, cluster.settings(folder))
    with open_directory(cluster.registry.url, namespace=None, keys=Keys.read(cluster.keys("reader"))) as directory:
        until(lambda: directory.service("guarded"), 10)
        record = directory.service("guarded")[0].record

    text = refusal_of(
        (record.endpoints["rpc"], bytes.fromhex(record.public_key)), client.pair, {"certificate": client.signed}
    )
    assert "was revoked" in text


def test_junk_for_a_certificate_is_refused(door):
    for junk in (b"", b"\xc1", b"x" * 9000, 7, "text", [1, 2], {"a": 1}):
        assert refusal_of(door, new_node_keys(), {"certificate": junk})


def test_an_honest_peer_is_served_beside_all_this(cluster, door):
    honest = Keys.read(cluster.keys("honest", calls="maths"))
    with Stranger(door[0], honest.pair, door[1]) as peer:
        peer.say(hello({"certificate": honest.signed}))
        welcome = peer.hear()
        peer.say(Call(1, "maths", "add", [2, 3]))
        assert peer.hear() == Result(1, 5)

    certificate = welcome.info["certificate"]
    assert cluster.authority and Keys.read(cluster.keys("reader")).believed(certificate, door[1]).serves == ("maths",)


# --- servers that are not believed ----------------------------------------------------------------------------------------


def test_a_server_that_its_certificate_does_not_name_is_not_called(cluster, start):
    # It may be listed as the service, and may not serve it.
    start(Maths, cluster.node("impostor", registers="maths", serves="others"))

    with ServiceRpcProxy("maths", cluster.node("client", calls="*")) as client:
        with pytest.raises(RemoteUnavailable, match="not used .the certificate of 'impostor-.*serves 'others'"):
            client.add(2, 3)


def test_a_wrong_key_in_a_list_does_not_look_like_a_server_that_is_down(cluster, door, caplog):
    static = f"static:maths={door[0]}#{new_node_keys().public.hex()}"
    settings = {**cluster.node("client", calls="*"), "DIRECTORY": static, "rpc_wait_for_service": 1}

    with ServiceRpcProxy("maths", settings) as client:
        with pytest.raises(RemoteUnavailable, match="the handshake failed: its key is another than the directory lists"):
            client.add(2, 3)

    assert "cannot be used: the handshake failed" in caplog.text


def test_a_written_list_has_keys(cluster, door):
    static = f"static:maths={door[0]}#{door[1].hex()}"

    with ServiceRpcProxy("maths", {**cluster.node("client", calls="maths"), "DIRECTORY": static}) as client:
        assert client.add(2, 3) == 5


@pytest.mark.parametrize("is_first", [True, False])
def test_a_written_list_has_two_keys_of_a_node_while_it_gets_another(cluster, door, is_first):
    keys = [door[1].hex(), new_node_keys().public.hex()]
    static = "static:maths=" + ",".join(f"{door[0]}#{key}" for key in (keys if is_first else keys[::-1]))

    with ServiceRpcProxy("maths", {**cluster.node("client", calls="maths"), "DIRECTORY": static}) as client:
        assert [client.add(number, 3) for number in range(20)] == [number + 3 for number in range(20)]


def test_a_fixed_list_without_keys_is_refused_by_a_client_with_keys(cluster, door):
    settings = {**cluster.node("client", calls="*"), "DIRECTORY": f"static:maths={door[0]}"}

    with pytest.raises(ConfigurationError, match="names no key of the node at 'tcp://.*; add #KEY to the address"):
        with ServiceRpcProxy("maths", settings) as client:
            client.add(2, 3)


def test_a_client_without_keys_is_told_what_is_missing(cluster, door, caplog):
    settings = cluster.settings(DIRECTORY=f"static:maths={door[0]}#{door[1].hex()}", rpc_wait_for_service=0.1)

    with ServiceRpcProxy("maths", settings) as client:
        with pytest.raises(UnknownService):
            client.add(2, 3)

    assert "it takes encrypted connections only; set SECURITY" in caplog.text


def test_a_service_whose_certificate_does_not_name_it_does_not_start(cluster, start):
    with pytest.raises(ConfigurationError, match="must not register 'maths': the certificate of 'other-"):
        start(Maths, cluster.node("other", serves="other"))


def test_a_node_whose_certificate_ends_soon_says_so_when_it_starts(cluster, start, caplog):
    start(Maths, cluster.settings(cluster.keys("short", serves="maths", days=29)))

    assert "ends in 29.0 days: `zmqservices keys renew short-" in caplog.text


def test_a_call_is_refused_once_the_callers_certificate_has_ended(cluster, monkeypatch, maths):
    with ServiceRpcProxy("maths", cluster.node("client", calls="maths")) as client:
        assert client.add(2, 3) == 5
        ended = time.time() + 2 * 86_400
        monkeypatch.setattr(maths.shared_extensions[Membership].join().guard, "clock", lambda: ended)
        with pytest.raises(Forbidden, match="has ended"):
            client.add(2, 3)


def test_a_forbidden_call_is_an_answer_and_is_not_made_again_elsewhere(cluster, start, caplog):
    class Twice(Maths):
        name = "twice"

        @rpc(idempotent=True)
        def read(self):
            return 1

    for _ in range(2):
        start(Twice, cluster.node("twice", serves="twice"))

    with ServiceRpcProxy("twice", cluster.node("client", calls="twice.add")) as client:
        assert client.add(1, 1) == 2
        with pytest.raises(Forbidden) as caught:
            client.read()

    assert not caught.value.retryable
    assert caplog.text.count("twice.read is forbidden to 'client-") == 1


def test_no_private_key_in_what_commands_show_and_logs_say(cluster, maths, caplog):
    caplog.set_level(logging.DEBUG)
    settings = cluster.node("shower", calls="maths")
    keys = Keys.read(settings["SECURITY"])
    definitions = [part for key, value in settings.items() for part in ("-d", f"{key}={value}")]

    shown = [
        gevent.get_hub().threadpool.apply(CliRunner().invoke, (cli, [*line.split(), *definitions])).output
        for line in ("show-config", "inspect maths", "ls --json", "check")
    ]

    assert str(settings["SECURITY"]) in shown[0] and "add" in shown[1]
    for pair in (keys.pair, keys.signing):
        private = (pair.private.hex(), repr(pair.private), base64.b64encode(pair.private).decode())
        assert not [one for one in private if one in "".join(shown) + caplog.text]


def test_settings_show_no_private_key(cluster):
    settings = Settings.read(cluster.node("client"))

    for shown in (repr(settings), repr(settings.sockets), str(settings.keys)):
        assert settings.keys.pair.private.hex() not in shown
        assert repr(settings.keys.pair.private) not in shown
    assert settings == Settings.read({**cluster.settings(settings.keys.folder)})


def test_a_policy_needs_keys(cluster, tmp_path):
    (tmp_path / "policy.yaml").write_text("deny: []")
    with pytest.raises(ConfigurationError, match="no peer is known by name without SECURITY"):
        Settings.read({"POLICY": str(tmp_path / "policy.yaml")})


def test_a_policy_denies_and_allows_beyond_certificates(cluster, start, tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("deny: [{who: alice-*, calls: maths.subtract}]\nallow: [{who: alice-*, calls: maths.who}]\n")
    start(Maths, {**cluster.node("maths", serves="maths"), "POLICY": str(path)})

    with ServiceRpcProxy("maths", cluster.node("alice", calls=("maths.add", "maths.subtract"))) as alice:
        assert alice.add(2, 3) == 5
        assert alice.who().startswith("alice-")
        with pytest.raises(Forbidden, match="policy.yaml, deny 1: 'alice-.* is denied calls 'maths.subtract'"):
            alice.subtract(3, 2)


@pytest.mark.parametrize("folder, text", [("nowhere", "no folder of keys; `zmqservices keys issue NAME` makes one")])
def test_a_wrong_folder_is_an_error_of_configuration(folder, text):
    with pytest.raises(ConfigurationError, match=f"SECURITY is '{folder}': .*{text}"):
        Settings.read({"SECURITY": folder})
