"""Keys and certificates that change while a process runs: renewed, revoked, and of two authorities."""

import dataclasses
import re
import shutil
import time
from pathlib import Path

import pytest

from discovery import open_directory
from discovery.exceptions import SecurityError
from discovery.protocol import MAX_LISTS, MAX_PUSH
from discovery.security import files
from discovery.security.authority import Authority
from discovery.security.envelopes import Verifier
from discovery.security.keys import MOST_AUTHORITIES, Keys
from discovery.security.list_exchange import MOST_LISTS
from discovery.security.renewal import DAY, KeysFolderWatch, learn, lists_of
from discovery.security.revocations import LONGEST_LIST, Revocations
from discovery.security.verdicts import SKEW, Refusal, Trust
from discovery.server.registry_server import RegistryServer
from tests.discovery.stage import registries
from tests.stage import until
from zmqservices.cluster.keys_watch import PolicyWatch
from zmqservices.cluster.node import Node
from zmqservices.exceptions import Forbidden, RemoteUnavailable
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b


@pytest.fixture
def authority(tmp_path):
    return Authority.create(tmp_path / "authority")


@pytest.fixture
def node(authority, tmp_path):
    """A node's folder on its own host: what the authority does does not reach it by itself."""

    def node(name="node", **permissions):
        folder = tmp_path / "hosts" / name
        shutil.copytree(authority.issue(name, permissions), folder)
        return folder

    return node


def is_believed(keys, other):
    try:
        keys.believed(other.signed, other.pair.public)
    except Refusal as exc:
        assert exc.reason in ("revoked", "authority")
        return False
    return True


# --- files -------------------------------------------------------------------------------------------------


def test_a_renewed_certificate_takes_the_place_of_the_former_one(authority, node):
    folder = node("orders")
    keys = Keys.read(folder)
    watch = KeysFolderWatch(keys)
    former = keys.certificate.serial

    assert not watch.look()
    authority.renew("orders")
    shutil.copy(authority.folder / "orders" / "node.certificate", folder)

    assert watch.look()
    assert keys.certificate.serial != former
    assert keys.believed(keys.signed, keys.pair.public) == keys.certificate
    assert not watch.look()
    assert keys == Keys.read(folder)


def test_a_certificate_that_ends_soon_is_told_once_a_day_while_the_process_runs(node, caplog):
    keys = Keys.read(node("orders"))
    now = [keys.certificate.ends - 31.5 * DAY]
    watch = KeysFolderWatch(keys, clock=lambda: now[0])

    for _ in range(4 * 3):
        watch.look()
        now[0] += DAY / 4
    assert [text.partition(" in ")[2].partition(" ")[2] for text in caplog.messages] == [
        f"ends in {days} days: `zmqservices keys renew orders` makes another" for days in ("29.5",)
    ]
    now[0] = keys.certificate.ends + DAY
    watch.look()
    assert "ended 1.0 days ago" in caplog.messages[-1]


def test_what_cannot_be_used_changes_nothing_and_is_told_once(node, caplog):
    folder = node("orders")
    keys = Keys.read(folder)
    watch = KeysFolderWatch(keys)
    former = keys.signed

    (folder / "node.certificate").write_text("certificate: bm9uc2Vuc2U=\n")
    assert not watch.look()
    assert not watch.look()

    assert keys.signed == former
    [line] = [text for text in caplog.messages if "are not used" in text]
    assert f"the changed keys in {folder} are not used, and the former keys stay: " in line
    assert f"{folder}/node.certificate cannot be used" in line


def test_another_private_key_is_for_the_next_start(node, caplog):
    folder = node("orders")
    keys = Keys.read(folder)
    shutil.copytree(node("other"), folder, dirs_exist_ok=True)

    assert not KeysFolderWatch(keys).look()
    assert "has another private key than before; restart the process to use it" in caplog.text


def test_two_authorities_are_trusted_while_one_takes_over_from_the_other(authority, node, tmp_path):
    folder = node("orders")
    keys = Keys.read(folder)
    watch = KeysFolderWatch(keys)
    successor = Authority.create(tmp_path / "successor")
    old, new = Keys.read(node("old")), Keys.read(successor.issue("new", {}))
    assert (is_believed(keys, old), is_believed(keys, new)) == (True, False)

    lines = (folder / "authorities").read_text() + (successor.folder / "authority").read_text()
    (folder / "authorities").write_text(lines)
    assert watch.look()
    assert (is_believed(keys, old), is_believed(keys, new)) == (True, True)

    # In the end this node's own certificate is of the successor, and the former authority is trusted no more.
    (folder / "authorities").write_text((successor.folder / "authority").read_text())
    watch.look()
    assert (is_believed(keys, old), is_believed(keys, new)) == (False, True)


def several(folder, number):
    """The folders of authorities. The node of the first one in `folder` trusts all of them."""
    authorities = [Authority.create(folder / f"authority-{one}") for one in range(number)]
    node = folder / "node"
    shutil.copytree(authorities[0].issue("orders", {}), node)
    (node / "authorities").write_text("".join((one.folder / "authority").read_text() for one in authorities))
    return authorities, node


def test_more_authorities_than_can_be_trusted_are_refused_with_the_number(tmp_path, caplog):
    _, folder = several(tmp_path, MOST_AUTHORITIES)
    keys, watch = Keys.read(folder), KeysFolderWatch(Keys.read(folder))
    assert len(keys.trust.authorities) == MOST_AUTHORITIES

    one_more = Authority.create(tmp_path / "one-more")
    with (folder / "authorities").open("a") as file:
        file.write((one_more.folder / "authority").read_text())
    text = f"{folder}/authorities has {MOST_AUTHORITIES + 1} authorities, and {MOST_AUTHORITIES} at most can be trusted;"

    with pytest.raises(SecurityError, match=re.escape(text)):
        Keys.read(folder)
    assert not watch.look()
    assert f"are not used, and the former keys stay: {text}" in caplog.text


def test_long_lists_of_all_authorities_reach_every_process(tmp_path, monkeypatch):
    """All of them together are larger than a message may be, both to a registry and from it."""
    authorities, folder = several(tmp_path, MOST_AUTHORITIES)
    other = tmp_path / "other"
    shutil.copytree(authorities[0].issue("stock", {}), other)
    at_registry = tmp_path / "at-registry"
    shutil.copytree(authorities[0].folder / "registry", at_registry)
    for one in (other, at_registry):
        shutil.copy(folder / "authorities", one)
    serials = {f"{number:05}{'x' * 34}" for number in range(7_000)}
    keys = Keys.read(folder)
    learn(keys, [Revocations(one.public_key).with_serials(serials, one._keys).signed for one in authorities])
    assert sum(map(len, lists_of(keys))) > MAX_PUSH and len(lists_of(keys)) == MOST_AUTHORITIES

    registry = RegistryServer("tcp://127.0.0.1:0", keys=Keys.read(at_registry))
    registry.start()
    try:
        registry.wait_bound(60.0)
        late = Keys.read(other)
        with open_directory(registry.url, keys=Keys.read(folder)), open_directory(registry.url, keys=late) as directory:
            until(lambda: len(lists_of(late)) == MOST_AUTHORITIES, 60)
            assert directory.wait_ready(30)
    finally:
        registry.stop(blocking=True)
    assert sorted(lists_of(Keys.read(other))) == sorted(lists_of(keys))


def test_the_protocols_have_room_for_the_lists_of_all_authorities():
    assert MOST_AUTHORITIES <= MAX_LISTS and MOST_AUTHORITIES <= MOST_LISTS
    assert MOST_AUTHORITIES * LONGEST_LIST * 4 // 3 < files.LONGEST_FILE


def test_clocks_may_differ_by_a_minute(authority, node):
    keys = Keys.read(node("orders"))
    certificate = keys.certificate

    keys.trust.believed(keys.signed, keys.pair.public, certificate.starts - SKEW)
    keys.trust.believed(keys.signed, keys.pair.public, certificate.ends + SKEW)
    with pytest.raises(Refusal, match="are the clocks right"):
        keys.trust.believed(keys.signed, keys.pair.public, certificate.starts - SKEW - 1)
    with pytest.raises(Refusal, match="ended 61 s ago"):
        keys.trust.confirm(keys.signed, certificate.ends + SKEW + 1)


# --- lists of what is revoked ------------------------------------------------------------------------------


def test_a_newer_list_is_believed_and_kept_for_the_next_start(authority, node):
    folder = node("orders")
    keys, thief = Keys.read(folder), Keys.read(node("thief"))
    authority.revoke("thief")
    [newer] = lists_of(Keys.read(authority.folder / "orders"))

    assert learn(keys, [newer])
    assert not learn(keys, [newer])

    assert keys.refusal_of(thief.signed) == f"the certificate {thief.certificate.serial} of 'thief' was revoked"
    assert not is_believed(Keys.read(folder), thief)
    assert lists_of(keys) == [newer]


def test_an_older_list_and_one_of_a_stranger_are_passed_over(authority, node, tmp_path):
    keys = Keys.read(node("orders"))
    for name in ("one", "two"):
        node(name)
    authority.revoke("one")
    [older] = lists_of(Keys.read(authority.folder / "orders"))
    authority.revoke("two")
    [newer] = lists_of(Keys.read(authority.folder / "orders"))
    stranger = Authority.create(tmp_path / "stranger")
    stranger.issue("orders", {})
    stranger.revoke_serials({keys.certificate.serial})
    foreign = lists_of(Keys.read(stranger.folder / "orders"))

    assert learn(keys, [newer])
    assert not learn(keys, [older])
    assert not learn(keys, foreign)
    assert lists_of(keys) == [newer]


def test_junk_is_no_list(node):
    keys = Keys.read(node("orders"))

    for junk in (b"", b"\xc1", b"x" * 600_000):
        with pytest.raises(SecurityError, match="revoked certificates"):
            learn(keys, [junk])
    assert keys.generation == 0


def test_a_node_that_is_revoked_itself_still_learns_of_others(authority, node):
    folder = node("orders")
    keys, other = Keys.read(folder), Keys.read(node("other"))
    watch = KeysFolderWatch(keys)
    authority.revoke("orders")
    authority.revoke("other")
    shutil.copy(authority.folder / "registry" / "revoked", folder)

    assert watch.look()
    assert not is_believed(keys, other)


# --- notes -------------------------------------------------------------------------------------------------


def test_notes_are_signed_again_at_once_when_the_certificate_is_of_another_authority(authority, node, tmp_path):
    orders, reader = node("orders", publishes=("orders",)), node("reader")
    with registries(keys=Keys.read(authority.folder / "registry")) as (registry,):
        keys = Keys.read(orders)
        with open_directory(registry.url, keys=keys) as there, open_directory(registry.url, keys=Keys.read(reader)) as here:
            there.put("events:orders\0mails.send:paid", {"source": "orders", "pattern": "paid", "group": "mails.send:paid"})
            until(lambda: here.view().notes)
            former = here.view().notes[0]
            successor = Authority.create(tmp_path / "successor", former=authority.folder)
            for folder in (orders, reader, Path(authority.folder / "registry")):
                shutil.copy(successor.folder / folder.name / "authorities", folder)
            until(lambda: len(registry._keys.trust.authorities) == 2)
            for own in (keys, here._gate.signer._keys):
                KeysFolderWatch(own).look()

            shutil.copy(successor.folder / "orders" / "node.certificate", orders)
            assert KeysFolderWatch(keys).look()

            until(lambda: here.view().notes[0].stamp == former.stamp + 1)
            [note] = here.view().notes
    alone = dataclasses.replace(Keys.read(reader), trust=Trust(frozenset([successor.public_key])))
    assert Verifier(alone).note(note).value["group"] == "mails.send:paid"
    with pytest.raises(Refusal, match="not trusted"):
        Verifier(alone).note(former)


# --- connections that stand --------------------------------------------------------------------------------


@pytest.fixture
def settings(cluster, tmp_path):
    """Settings of a node whose folder is on its own host; what is revoked reaches it by the directory alone."""

    def settings(name, **permissions):
        issued = cluster.keys(name, **permissions)
        folder = tmp_path / "hosts" / issued.name
        shutil.copytree(issued, folder)
        return issued.name, {**cluster.settings(folder), "DIRECTORY_TTL": 0.6, "rpc_wait_for_service": 1}

    return settings


def test_calls_of_a_revoked_client_fail_and_say_why(cluster, start, settings):
    start(Maths, settings("maths", serves="maths")[1])
    name, thief = settings("thief", calls="maths")
    _, honest = settings("honest", calls="maths")

    with ServiceRpcProxy("maths", thief) as stolen, ServiceRpcProxy("maths", honest) as client:
        assert (stolen.add(2, 3), client.add(2, 3)) == (5, 5)
        cluster.authority.revoke(name)

        def refusal():
            try:
                stolen.add(2, 3)
            except (RemoteUnavailable, Forbidden) as exc:
                return str(exc)

        until(refusal, 20)
        assert "was revoked" in refusal()
        assert client.add(2, 3) == 5


def test_a_revoked_server_is_not_called_any_more(cluster, start, settings):
    name, server = settings("maths", serves="maths")
    start(Maths, server)

    with ServiceRpcProxy("maths", settings("client", calls="maths")[1]) as client:
        assert client.add(2, 3) == 5
        cluster.authority.revoke(name)

        def refusal():
            try:
                client.add(2, 3)
            except RemoteUnavailable as exc:
                return str(exc)

        until(refusal, 20)


def test_a_renewed_client_goes_on_over_the_same_connection(cluster, start, settings, tmp_path):
    container = start(Maths, settings("maths", serves="maths")[1])
    name, client_settings = settings("client", calls="maths")
    connections = next(node for node in Node._nodes.values() if node.call_server).call_server._router.clients

    def shown():
        return {one.identity.certificate.serial for one in connections.values() if one.identity is not None}

    with ServiceRpcProxy("maths", client_settings) as client:
        assert client.add(2, 3) == 5
        before = shown()
        cluster.authority.renew(name)
        shutil.copy(cluster.folder / name / "node.certificate", client_settings["SECURITY"])

        end = time.monotonic() + 20
        while shown() == before and time.monotonic() < end:
            assert client.add(2, 3) == 5
        [serial] = shown()

    assert serial == Keys.read(client_settings["SECURITY"]).certificate.serial
    assert container is not None


# --- the policy --------------------------------------------------------------------------------------------

DENY = "deny:\n  - who: client-*\n    calls: [maths.{}]\n"


def replace(path, text):
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.rename(path)


def test_a_changed_policy_holds_for_connections_that_stand(cluster, start, settings, tmp_path, caplog):
    policy = tmp_path / "policy.yaml"
    policy.write_text(DENY.format("other"))
    start(Maths, {**settings("maths", serves="maths")[1], "POLICY": str(policy)})

    with ServiceRpcProxy("maths", settings("client", calls="maths")[1]) as client:
        assert client.add(2, 3) == 5
        replace(policy, DENY.format("add"))

        def refusal():
            try:
                client.add(2, 3)
            except Forbidden as exc:
                return str(exc)

        until(refusal, 20)
        assert "policy.yaml, deny 1" in refusal()

        replace(policy, "deny:\n  - whom: client-*\n")
        until(lambda: "the changed policy is not used" in caplog.text, 20)
        assert refusal()

    [line] = [record for record in caplog.records if "the changed policy is not used" in record.message]
    assert line.levelname == "ERROR"
    assert line.message.endswith("policy.yaml, deny 1 has 'whom'; did you mean 'who'?")


def test_a_policy_that_is_no_yaml_is_told_with_its_line(tmp_path, caplog):
    path = tmp_path / "policy.yaml"
    path.write_text(DENY.format("add"))
    changed = []
    watch = PolicyWatch(str(path), changed.append)

    path.write_text("deny:\n  - who: [a\nallow: b\n")
    watch.look()
    watch.look()
    assert changed == []
    [line] = caplog.messages
    assert "policy.yaml, line 3" in line

    path.write_text(DENY.format("add") * 1)
    watch.look()
    assert len(changed[0].deny) == 1
