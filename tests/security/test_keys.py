"""Folders of authorities and nodes, through `zmqservices keys` and `policy`."""

import json
import os
import shutil
import stat
import sys
import time

import pytest
from click.testing import CliRunner

from discovery import open_directory
from discovery.exceptions import SecurityError
from discovery.security import files
from discovery.security.authority import DAY, Authority
from discovery.security.keys import Keys
from discovery.security.signing import KeyPair
from zmqservices.cli.keys import keys_command
from zmqservices.cli.policy import policy_command
from zmqservices.exceptions import CommandError

NOW = 1_800_000_000.0


@pytest.fixture
def run():
    def run(name, *arguments):
        command = {"keys": keys_command, "policy": policy_command}[name]
        result = CliRunner().invoke(command, list(map(str, arguments)))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def cluster(tmp_path, run):
    run("keys", "init", tmp_path / "cluster")
    return tmp_path / "cluster"


def test_five_minutes_from_nothing_to_a_folder_of_keys(cluster, run):
    permissions = ("--serves", "orders", "--calls", "stock.*", "--publishes", "orders")
    run("keys", "issue", "orders", "-a", cluster, *permissions, "--days", 30)

    keys = Keys.read(cluster / "orders")

    assert keys.certificate.name == "orders"
    assert (keys.certificate.serves, keys.certificate.registers) == (("orders",), ("orders",))
    assert keys.certificate.calls == ("stock.*",)
    assert keys.certificate.ends - keys.certificate.starts == 30 * DAY
    assert keys.registry_keys == (Keys.read(cluster / "registry").pair.public,)
    assert "orders is in order" in run("keys", "verify", cluster / "orders").output


def test_private_keys_are_their_owners_alone(cluster, run):
    run("keys", "issue", "orders", "-a", cluster)
    for path in (cluster / "authority.key", cluster / "orders" / "node.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (cluster, cluster / "orders"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    os.chmod(cluster / "orders" / "node.key", 0o640)
    mend = r"other users can read \(mode 0640, of user \d+ and group \d+\); chmod 600 .*defaultMode: 0440 and its pod an fsGroup"
    with pytest.raises(SecurityError, match=mend):
        Keys.read(cluster / "orders")
    os.chmod(cluster / "authority.key", 0o604)
    with pytest.raises(SecurityError, match="mode 0604"):
        Authority(cluster)


@pytest.mark.parametrize(
    ("mode", "user", "group", "is_ours"),
    [
        (0o600, 10001, 10001, True),
        (0o400, 0, 0, True),
        # As Kubernetes hands a Secret to a pod with an fsGroup.
        (0o440, 0, 2000, True),
        (0o640, 0, 2000, True),
        (0o440, 0, 3000, False),
        (0o440, 0, 0, False),
        (0o640, 10001, 2000, False),
        (0o460, 0, 2000, False),
        (0o644, 0, 2000, False),
        (0o604, 10001, 10001, False),
        (0o602, 0, 2000, False),
    ],
)
def test_who_may_read_a_private_key(mode, user, group, is_ours):
    found = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, user, group, 100, 0, 0, 0))

    assert files.is_private(found, {0, 10001, 2000}) is is_ours


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_a_secret_of_kubernetes_is_read_by_the_pods_group_alone(cluster, run, tmp_path, monkeypatch):
    run("keys", "issue", "orders", "-a", cluster)
    mounted = tmp_path / "mounted"
    (mounted / "..data").mkdir(parents=True)
    for path in (cluster / "orders").iterdir():
        # As the kubelet mounts it: the name is a link, the file root's, its group the pod's fsGroup.
        copied = mounted / "..data" / path.name
        copied.write_bytes(path.read_bytes())
        copied.chmod(0o440)
        os.chown(copied, 0, 20001)
        (mounted / path.name).symlink_to(f"..data/{path.name}")

    monkeypatch.setattr(os, "getgroups", lambda: [20001])
    assert Keys.read(mounted).certificate.name == "orders"
    monkeypatch.setattr(os, "getgroups", lambda: [20002])
    with pytest.raises(SecurityError, match=r"mode 0440, of user 0 and group 20001"):
        Keys.read(mounted)


def test_the_key_is_printed_alone_to_be_pasted(cluster, run):
    run("keys", "issue", "orders", "-a", cluster)
    key = Keys.read(cluster / "orders").pair.public.hex()

    assert run("keys", "show", "--key", cluster / "orders").output == f"{key}\n"
    assert key in run("keys", "show", "--key", cluster).output.split()
    open_directory(f"dns://shop.test:4000#{key}", keys=Keys.read(cluster / "orders"))
    open_directory(f"static:orders=tcp://127.0.0.1:4000#{key}", keys=Keys.read(cluster / "orders"))


def test_no_private_key_in_what_is_printed_or_shown(cluster, run):
    run("keys", "issue", "orders", "-a", cluster)
    keys = Keys.read(cluster / "orders")
    line = next(
        text for text in (cluster / "orders" / "node.key").read_text().splitlines() if text.startswith("private-key")
    ).split()[1]
    shown = [
        run("keys", "show", cluster / "orders").output,
        run("keys", "show", cluster, "--json").output,
        run("keys", "verify", cluster / "orders").output,
        repr(keys),
        str(vars(keys)),
    ]

    for secret in (line, keys.pair.private.hex(), repr(keys.pair.private)):
        assert not [text for text in shown if secret in text]


def test_a_damaged_private_key_is_not_quoted(cluster, run):
    run("keys", "issue", "orders", "-a", cluster)
    path = cluster / "orders" / "node.key"
    path.write_text(path.read_text().rstrip()[:-3] + "\n")

    with pytest.raises(SecurityError) as caught:
        Keys.read(cluster / "orders")

    assert path.read_text().split()[-1] not in str(caught.value)


def test_a_key_that_is_not_the_certificates_is_refused(cluster, run):
    run("keys", "issue", "orders", "-a", cluster)
    run("keys", "issue", "stock", "-a", cluster)
    (cluster / "orders" / "node.key").write_bytes((cluster / "stock" / "node.key").read_bytes())

    with pytest.raises(SecurityError, match=r"node.certificate cannot be used: .* is for the key"):
        Keys.read(cluster / "orders")


def test_a_certificate_ends_and_is_renewed_for_the_same_key(tmp_path):
    authority = Authority.create(tmp_path / "cluster", clock=lambda: NOW)
    folder = authority.issue("orders", {"calls": ("stock",)}, days=1)
    late = NOW + 2 * DAY
    with pytest.raises(SecurityError, match="ended 86400 s ago"):
        Keys.read(folder, lambda: late)
    before = (folder / "node.key").read_bytes()

    Authority(tmp_path / "cluster", lambda: late).renew("orders", days=1)

    keys = Keys.read(folder, lambda: late)
    assert keys.certificate.calls == ("stock",)
    assert (folder / "node.key").read_bytes() == before


@pytest.mark.parametrize(
    ("passed", "starts"), [(0, 1), (1, 1), (-20, 1), (-DAY, -DAY)], ids=["same-second", "next", "clock-behind", "clock-was-wrong"]
)
def test_a_renewed_certificate_begins_after_the_former_one(tmp_path, passed, starts):
    folder = Authority.create(tmp_path / "cluster", clock=lambda: NOW).issue("orders", days=9)

    Authority(tmp_path / "cluster", lambda: NOW + passed).renew("orders", days=9)

    assert Keys.read(folder, lambda: NOW).certificate.starts == NOW + starts


def test_revoking_voids_the_renewed_certificates_as_well(tmp_path):
    authority = Authority.create(tmp_path / "cluster")
    folder = authority.issue("orders", days=2)
    first = Keys.read(folder)
    authority.renew("orders", days=3)
    second = Keys.read(folder)
    other = authority.issue("stock")

    authority.revoke("orders")

    trust = Keys.read(other)
    for keys in (first, second):
        with pytest.raises(SecurityError, match="was revoked"):
            trust.believed(keys.signed, keys.pair.public)
    with pytest.raises(SecurityError, match="was revoked"):
        Keys.read(folder)


def test_a_revoked_name_can_be_issued_anew_with_another_key(tmp_path):
    authority = Authority.create(tmp_path / "cluster")
    first = Keys.read(authority.issue("orders"))
    authority.revoke("orders")

    second = Keys.read(authority.issue("orders"))

    assert first.pair.public != second.pair.public


def test_the_registries_get_a_new_key_that_every_folder_learns(tmp_path):
    authority = Authority.create(tmp_path / "cluster")
    orders = authority.issue("orders")
    authority.revoke("registry")

    authority.issue("registry")

    assert Keys.read(orders).registry_keys == (Keys.read(tmp_path / "cluster" / "registry").pair.public,)


def test_another_authority_in_a_folder_stays_trusted(tmp_path):
    authority, other = (Authority.create(tmp_path / name) for name in ("one", "two"))
    folder = authority.issue("orders")
    stranger = Keys.read(other.issue("stock"))
    with (folder / "authorities").open("a") as file:
        file.write("".join((tmp_path / "two" / "authority").read_text()))

    authority.renew("orders")
    authority.issue("users")
    authority.revoke("users")

    assert Keys.read(folder).believed(stranger.signed, stranger.pair.public).name == "stock"


def test_an_authority_takes_the_place_of_another_and_nodes_keep_their_keys(cluster, run, tmp_path):
    run("keys", "issue", "orders", "-a", cluster, "--serves", "orders")
    for name in ("thief", "stock"):
        run("keys", "issue", name, "-a", cluster)
    run("keys", "revoke", "thief", "-a", cluster)
    before = {name: Keys.read(cluster / name) for name in ("orders", "stock", "registry")}

    said = run("keys", "init", tmp_path / "next", "--succeeds", cluster).output

    assert "which replaces" in said and "orders, registry, stock" in said
    assert not list((tmp_path / "next").glob("*/node.key"))
    for file in ("authorities", "revoked", "registry", "node.certificate"):
        for name in before:
            (cluster / name / file).write_bytes((tmp_path / "next" / name / file).read_bytes())
    for name, keys in before.items():
        after = Keys.read(cluster / name)
        assert after == keys and after.certificate.serial != keys.certificate.serial
        assert after.certificate.serves == keys.certificate.serves
        # Both are trusted, and what one of them revoked stays so.
        assert after.believed(before["orders"].signed, before["orders"].pair.public)
        assert len(after.trust.authorities) == 2 and len(after.trust.revoked) == 1
    # The second one alone.
    (cluster / "orders" / "authorities").write_bytes((tmp_path / "next" / "authority").read_bytes())
    alone = Keys.read(cluster / "orders")
    assert alone.registry_keys == (before["registry"].pair.public,)
    assert alone.believed(Keys.read(cluster / "stock").signed, before["stock"].pair.public)
    with pytest.raises(SecurityError, match="which is not trusted here"):
        alone.believed(before["stock"].signed, before["stock"].pair.public)


def test_an_authority_whose_key_is_lost_is_replaced_all_the_same(cluster, run, tmp_path):
    run("keys", "issue", "orders", "-a", cluster, "--serves", "orders")
    (cluster / "authority.key").unlink()
    for command in (("renew", "orders"), ("revoke", "orders"), ("issue", "stock")):
        with pytest.raises(SecurityError, match=f"authority.key; if it is lost, `.* keys init NEW --succeeds {cluster}`"):
            run("keys", *command, "-a", cluster)

    run("keys", "init", tmp_path / "next", "--succeeds", cluster)
    before = Keys.read(cluster / "orders")
    for file in ("authorities", "registry", "node.certificate"):
        (cluster / "orders" / file).write_bytes((tmp_path / "next" / "orders" / file).read_bytes())

    after = Keys.read(cluster / "orders")
    assert after == before and after.certificate.serves == ("orders",) and len(after.trust.authorities) == 2
    run("keys", "renew", "orders", "-a", tmp_path / "next")


def test_a_key_that_is_not_the_folders_is_refused(cluster, tmp_path):
    other = Authority.create(tmp_path / "other").folder
    (cluster / "authority.key").write_bytes((other / "authority.key").read_bytes())

    with pytest.raises(SecurityError, match="authority.key is not the key of .*authority"):
        Authority(cluster)


def test_all_certificates_in_a_file_are_shown(cluster, run):
    run("keys", "issue", "registry-2", "-a", cluster, "--registry")
    run("keys", "renew", "registry-2", "-a", cluster)

    shown = json.loads(run("keys", "show", cluster / "registry-2" / "registry", "--json").output)
    newest = json.loads(run("keys", "show", cluster, "--json").output)

    assert sorted(one["name"] for one in shown) == sorted(one["name"] for one in newest) == ["registry", "registry-2"]


def test_a_file_that_is_too_long_is_refused_and_not_cut_off(tmp_path):
    folder = Authority.create(tmp_path / "one").issue("orders")
    with (folder / "authorities").open("a") as file:
        file.write("#" * files.LONGEST_FILE)

    with pytest.raises(SecurityError, match=f"authorities has more than {files.LONGEST_FILE:,} bytes; is it another file"):
        Keys.read(folder)


def test_what_is_revoked_or_has_ended_is_not_issued_by_a_successor(tmp_path):
    former = Authority.create(tmp_path / "one")
    for name in ("orders", "stock", "thief"):
        former.issue(name, days=1 if name == "stock" else 9)
    # As when `revoke` was interrupted: the certificate is on the list, and still among those that were issued.
    former.revoke_serials({Keys.read(former.folder / "thief").certificate.serial})

    later = time.time() + 2 * 86_400
    successor = Authority.create(tmp_path / "two", clock=lambda: later, former=former.folder)

    assert successor.names() == ["orders", "registry"]


def test_a_forged_registry_certificate_is_refused(tmp_path):
    authority = Authority.create(tmp_path / "one")
    folder, other = authority.issue("orders"), authority.issue("stock")
    (folder / "registry").write_bytes((other / "node.certificate").read_bytes())

    with pytest.raises(SecurityError, match="registry cannot be used: it is not that of a registry"):
        Keys.read(folder)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "issued", "authority.key", "x.revoked", "two words", "a\nb"])
def test_a_name_that_is_no_folder_is_refused(cluster, name):
    with pytest.raises(SecurityError, match="cannot be that of a node"):
        Authority(cluster).issue(name)


def test_errors_say_what_to_do(cluster, run, tmp_path):
    with pytest.raises(SecurityError, match="has an authority already"):
        Authority.create(cluster)
    with pytest.raises(SecurityError, match="`zmqservices keys init DIR` makes one"):
        Authority(tmp_path)
    with pytest.raises(SecurityError, match="no folder of keys; `zmqservices keys issue NAME`"):
        Keys.read(tmp_path / "nowhere")
    Authority(cluster).issue("orders")
    with pytest.raises(SecurityError, match="`keys renew orders`"):
        Authority(cluster).issue("orders")
    with pytest.raises(SecurityError, match="no certificate of 'nobody' was issued here; there are: orders, registry"):
        Authority(cluster).revoke("nobody")
    (cluster / "orders" / "authorities").write_text("# nothing\n")
    with pytest.raises(SecurityError, match="authorities has no line 'authority: ...'"):
        Keys.read(cluster / "orders")


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)

    with pytest.raises(SecurityError, match=r"pip install 'zmqservices\[security\]'"):
        Authority.create(tmp_path / "cluster")


def test_keys_are_equal_where_they_are_the_same(cluster, run):
    run("keys", "issue", "orders", "-a", cluster)

    one, two = Keys.read(cluster / "orders"), Keys.read(cluster / "orders")

    assert one == two and hash(one) == hash(two)
    assert one.pair == KeyPair(two.pair.private, two.pair.public)


def test_a_policy_is_checked_and_explained(cluster, run, tmp_path):
    run("keys", "issue", "orders", "-a", cluster, "--calls", "stock.*")
    policy = tmp_path / "policy.yaml"
    policy.write_text("deny:\n  - who: ord*\n    calls: stock.delete\n")

    assert "1 rules deny, 0 allow" in run("policy", "check", policy).output
    allowed = run("policy", "explain", "orders", "stock.reserve", "-a", cluster)
    assert (allowed.exit_code, allowed.output.split(":")[0]) == (0, "allowed")
    denied = run("policy", "explain", cluster / "orders", "stock.delete", "--policy", policy)
    assert (denied.exit_code, denied.output) == (1, "forbidden: policy.yaml, deny 1: 'orders' is denied calls 'stock.delete'\n")


@pytest.fixture
def explain(cluster, run):
    """What `policy explain` says, after its exit code."""

    def explain(*arguments):
        done = run("policy", "explain", *arguments, "-a", cluster)
        return done.exit_code, done.output

    return explain


def test_an_explanation_knows_who_is_revoked_or_has_a_certificate_that_ended(cluster, run, explain, tmp_path):
    run("keys", "issue", "orders", "-a", cluster, "--calls", "stock")
    shutil.copytree(cluster / "orders", tmp_path / "orders")
    assert explain("orders", "stock.reserve")[0] == explain(tmp_path / "orders", "stock.reserve")[0] == 0

    run("keys", "revoke", "orders", "-a", cluster)

    # By name, by a folder to which nobody has copied the list yet, and by a file.
    for caller in ("orders", tmp_path / "orders", tmp_path / "orders" / "node.certificate"):
        status, text = explain(caller, "stock.reserve")
        assert (status, text.startswith("forbidden: the certificate ")) == (1, True), text
        assert text.endswith("of 'orders' was revoked\n")
    # The folder knows it, wherever the authority is.
    (tmp_path / "orders" / "revoked").write_bytes((cluster / "revoked").read_bytes())
    assert "was revoked" in run("policy", "explain", tmp_path / "orders", "stock.reserve").output

    run("keys", "issue", "orders", "-a", cluster, "--calls", "stock")
    assert explain("orders", "stock.reserve")[0] == 0
    old = Authority(cluster, lambda: time.time() - 10 * DAY).issue("old", {"calls": ("stock",)}, days=1)
    for caller in ("old", old):
        status, text = explain(caller, "stock.reserve")
        assert (status, "ended" in text and "`zmqservices keys renew` makes another" in text) == (1, True), text


def test_an_explanation_for_a_caller_that_nobody_knows(cluster, run, explain, tmp_path):
    run("keys", "issue", "orders", "-a", cluster)

    with pytest.raises(CommandError, match=r"no certificate of 'oders' was issued by .*; did you mean 'orders'\?"):
        explain("oders", "stock.reserve")
    with pytest.raises(CommandError, match="of 'nobody' was issued .*; there are orders, registry"):
        explain("nobody", "stock.reserve")
    run("keys", "issue", "nobody.else", "-a", cluster)
    run("keys", "revoke", "nobody.else", "-a", cluster)
    with pytest.raises(CommandError, match="of 'nobody' was issued"):
        explain("nobody", "stock.reserve")
    with pytest.raises(CommandError, match="is no folder of keys and no file, and .* is no authority's folder.*`--authority"):
        run("policy", "explain", "nobody", "stock.reserve", "-a", tmp_path)


@pytest.mark.parametrize(
    ("verb", "target", "is_allowed"),
    [
        ("calls", "stock.reserve", True), ("calls", "users.get", False), ("calls", "events:orders.stats", True),
        ("calls", "events:stock.stats", False), ("handles", "payments.paid", True), ("handles", "payments.lost", False),
        ("administers", "orders.rewind", True), ("administers", "stock.rewind", False),
    ],
)  # fmt: skip
def test_every_verb_of_a_policy_is_explained_both_ways(cluster, run, explain, verb, target, is_allowed):
    permissions = ("--calls", "stock", "--handles", "payments.paid", "--administers", "orders")
    run("keys", "issue", "orders", "-a", cluster, *permissions)

    status, text = explain("orders", target, "--verb", verb)

    assert (status, text.partition(":")[0]) == ((0, "allowed") if is_allowed else (1, "forbidden"))
    assert ("its certificate" in text) if is_allowed else ("is not among that" in text)
