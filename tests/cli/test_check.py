"""`zmqservices check` reports its findings on a healthy host and on a broken host, and how to mend them."""

import json
import os
import re
import signal
import socket
import textwrap
from pathlib import Path

import click
import pytest
import yaml

from discovery import open_directory
from discovery.model import Record, Seen
from tests.documents.examples import DOCS
from tests.ports import free_port
from zmqservices.cli import diagnosis, examination
from zmqservices.cli.check import show
from zmqservices.cli.diagnosis import ERROR, OK, WARNING
from zmqservices.cli.main import main
from zmqservices.cli.nodes import NodeAnswer
from zmqservices.cluster.settings import Settings
from zmqservices.configuration import config

# --- the rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "level", "text", "mend"),
    [
        (diagnosis.of_extra("etcd", "h2", "DIRECTORY etcd:", True), OK, "h2 is installed", ""),
        (diagnosis.of_extra("etcd", "h2", "DIRECTORY etcd:", False), ERROR, "DIRECTORY etcd: needs", "zmqservices[etcd]"),
        (diagnosis.of_security(True, False), OK, "known by their certificates", ""),
        (diagnosis.of_security(False, False), OK, "nothing listens beyond this host", ""),
        (diagnosis.of_security(False, True), WARNING, "INSECURE is set", "set SECURITY"),
        (diagnosis.of_registry("10.0.0.5:4190", "", True), OK, "10.0.0.5:4190 accepts connections", ""),
        (diagnosis.of_registry("10.0.0.5:4190", "refused", True), WARNING, "cannot be reached: refused", "Other servers"),
        (diagnosis.of_registry("10.0.0.5:4190", "refused", False), ERROR, "cannot be reached: refused", "start the server"),
        (diagnosis.of_directory("tcp://a:1", 0.012, 3, False, False), OK, "within 12 ms and lists 3 instances", ""),
        (diagnosis.of_directory("local:", None, 0, True, False), WARNING, "nothing hosts local: now", "the first service hosts"),
        (diagnosis.of_directory("tcp://a:1", None, 0, False, False), ERROR, "tcp://a:1 does not answer", "that a registry runs"),
        (diagnosis.of_directory("tcp://a:1", None, 0, False, True), ERROR, "does not answer", "this node's certificate"),
        (diagnosis.of_answers(["web", "orders", "web"], 3), OK, "3 nodes answer (orders, web)", ""),
        (diagnosis.of_answers(["web"], 1), OK, "1 node answers (web)", ""),
        (diagnosis.of_answers(map("s{:02}".format, range(12)), 12), OK, "s08, s09 and 2 more)", ""),
        (diagnosis.of_clocks(3, 0.25), OK, "the clocks of 3 nodes agree with this host's to within 0.2 s", ""),
        (diagnosis.of_clocks(1, 0.25), OK, "the clock of 1 node agrees with this host's to within 0.2 s", ""),
        (diagnosis.of_certificates(3, 90.0), OK, "the certificates of 3 nodes are valid for at least 90 more days", ""),
        (diagnosis.of_node("tcp://a:1", "orders, web", "RpcTimeout: late"), WARNING, "RpcTimeout: late", "health orders`"),
        (diagnosis.of_node("tcp://a:1", "orders", "Forbidden: no"), WARNING, "Forbidden: no", "--administers node:operators"),
        (diagnosis.of_clock("blue", 0.2, 0.3), OK, "the clock of blue agrees with this host's to within 0.3 s", ""),
        (diagnosis.of_clock("blue", 3.0, 2.5), OK, "to within 3.0 s", ""),
        (diagnosis.of_clock("blue", 2.5, 0.1), WARNING, "2.5 s ahead of this host's", "NTP"),
        (diagnosis.of_clock("blue", -61.0, 0.1), ERROR, "61.0 s behind this host's", "NTP"),
        (diagnosis.of_port("BIND_ADDRESS", "*:4000", "", "", False), OK, "BIND_ADDRESS *:4000 is free", ""),
        (diagnosis.of_port("BIND_ADDRESS", "*:4000", "address already in use", "orders", True), OK, "used by orders", ""),
        (diagnosis.of_port("METRICS_ADDRESS", "*:1", "address already in use", "", True), WARNING, "in use", "another METRICS"),
        (diagnosis.of_port("BIND_ADDRESS", "*:1", "address already in use", "", False), ERROR, "in use", "end the program"),
        (diagnosis.of_port("BIND_ADDRESS", "*:1", "permission denied", "", True), ERROR, "permission denied", "1024"),
        (diagnosis.of_advertised("10.0.0.7", "", False, True), OK, "announces 10.0.0.7, and can reach itself there", ""),
        (diagnosis.of_advertised("127.0.0.1", "", True, False), OK, "announces 127.0.0.1", ""),
        (diagnosis.of_advertised("127.0.0.1", "", True, True), ERROR, "which no other host can reach", "set BIND_ADDRESS"),
        (diagnosis.of_advertised("10.9.9.9", "timed out", False, True), ERROR, "reach itself there: timed out", "ADVERTISE"),
        (diagnosis.of_descriptors(1024, 65536, 10), OK, "this shell may open 1024 files, and a service 65536 files", ""),
        (diagnosis.of_descriptors(-1, -1, 10), OK, "open any number of files", ""),
        (diagnosis.of_descriptors(1024, 1024, 10), WARNING, "1024", "ulimit -Hn"),
        (diagnosis.of_descriptors(1024, 65536, 40_000), ERROR, "40000 nodes are listed", "ulimit -Hn"),
        (diagnosis.of_descriptors(64, 64, 0), ERROR, "64", "LimitNOFILE"),
        (diagnosis.of_space("/var", 2**31, 2**30), OK, "2.0 GiB are free in /var", ""),
        (diagnosis.of_space("/var", 500 * 2**20, 2**30), WARNING, "500 MiB are free in /var, and each", "JOURNAL_MAX_BYTES"),
        (diagnosis.of_space("/var", 5 * 2**20, 2**30), ERROR, "5 MiB are free", "JOURNAL_FOLDER"),
        (diagnosis.of_permissions("/var", True, False), OK, "this user may write into /var", ""),
        (diagnosis.of_permissions("/var", True, True), WARNING, "other users may list the files in /var", "chmod 700 /var"),
        (diagnosis.of_permissions("/var", False, False), ERROR, "may not write into /var", "change its owner"),
        (diagnosis.of_file_system("/var", "ext4"), OK, "local file system (ext4)", ""),
        (diagnosis.of_file_system("/var", ""), OK, "local file system", ""),
        (diagnosis.of_file_system("/tmp", "tmpfs"), WARNING, "in memory (tmpfs)", "on a disk"),
        (diagnosis.of_file_system("/mnt", "nfs4"), WARNING, "over the network (nfs4)", "local disk"),
        (diagnosis.of_versions("1.0", {"1.0": 3}), OK, "all nodes that answered run zmqservices 1.0", ""),
        (diagnosis.of_versions("1.0", {"1.0": 3, "0.9": 1}), WARNING, "0.9 on 1, 1.0 on 3; this host has 1.0", "one version"),
        (diagnosis.of_versions("1.1", {"1.0": 3}), WARNING, "1.0 on 3; this host has 1.1", "one version"),
        (diagnosis.of_certificate("orders", 90.0), OK, "the certificate of orders is valid for 90 more days", ""),
        (diagnosis.of_certificate("orders", 12.5), WARNING, "the certificate of orders ends in 12.5 days", "keys renew orders"),
        (diagnosis.of_certificate("orders", -1.0), ERROR, "the certificate of orders ended 1.0 days ago", "keys renew orders"),
    ],
)  # fmt: skip
def test_each_rule_says_what_it_found_and_what_to_do(finding, level, text, mend):
    assert finding.level == level
    assert text in finding.text
    assert mend in finding.mend
    assert bool(finding.mend) is (level != OK)


def test_settings_that_look_mistyped_are_warnings_and_wrong_ones_errors():
    assert [one.level for one in diagnosis.of_settings("", {}, "config.yaml")] == [OK]
    (typo,) = diagnosis.of_settings("", {"rpc_timout": "rpc_timeout"}, "config.yaml")
    assert (typo.level, typo.mend) == (WARNING, "write 'rpc_timeout' if that is meant, or leave it out")
    (wrong,) = diagnosis.of_settings("HEARTBEAT is 'x'; a number is needed", {}, "config.yaml")
    assert (wrong.level, wrong.text) == (ERROR, "HEARTBEAT is 'x'; a number is needed")


# --- the facts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken():
    """A port at which something listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


def test_taken_ports_and_free_ports_are_told_apart(taken):
    assert examination.problem_of_binding("127.0.0.1", taken) == "address already in use"
    assert examination.problem_of_binding("127.0.0.1", 0) == ""
    assert "known" in examination.problem_of_binding("no-such-host.invalid", 1)


def test_only_ports_that_settings_name_are_tried(taken):
    settings = {
        "BIND_ADDRESS": "tcp://127.0.0.1:0", "METRICS_ADDRESS": f"127.0.0.1:{taken}", "WEB_SERVER_ADDRESS": f"127.0.0.1:{taken}",
    }  # fmt: skip
    web = Record("web", "one", host=socket.gethostname(), pid=os.getpid(), endpoints={"http": f"http://127.0.0.1:{taken}"})

    alone = list(examination.of_ports(settings, []))
    beside = list(examination.of_ports(settings, [Seen(web, age=0.0, suspect=False)]))

    assert [one.level for one in alone] == [ERROR, ERROR]
    assert [one.text for one in beside] == [
        f"METRICS_ADDRESS 127.0.0.1:{taken} is used by web, which runs here",
        f"WEB_SERVER_ADDRESS 127.0.0.1:{taken} is used by web, which runs here",
    ]


def test_the_extras_are_those_that_the_settings_need(monkeypatch):
    monkeypatch.setattr(examination.importlib.util, "find_spec", lambda name: None if name == "kazoo" else object())
    url = "etcd://10.0.0.5:2379/shop,zookeeper://10.0.0.6:2181/shop,consul://10.0.0.7:8500"

    found = list(examination.of_extras({"DIRECTORY": url, "METRICS_ADDRESS": "127.0.0.1:9464", "SECURITY": "keys"}))

    assert [(one.level, one.mend) for one in found] == [
        (OK, ""), (ERROR, "pip install 'zmqservices[zookeeper]'"), (OK, ""), (OK, ""), (OK, ""),
    ]  # fmt: skip
    assert list(examination.of_extras({"DIRECTORY": "tcp://10.0.0.7:4190"})) == []


def test_a_module_of_a_missing_package_is_missing():
    assert examination._is_installed("json.decoder")
    assert not examination._is_installed("no_such_package")
    assert not examination._is_installed("no_such_package.sdk")


def test_this_package_has_every_extra_that_check_names():
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text("utf-8")
    extras = re.findall(r"^(\w+) =$", setup.partition("extras_require]")[2], re.MULTILINE)

    named = {extra for extra, _ in examination.OF_DIRECTORIES.values()} | {extra for _, extra in examination.OF_SETTINGS.values()}
    assert named <= set(extras)


def test_a_node_reaches_itself_at_its_advertised_address():
    capabilities = open_directory("tcp://127.0.0.1:1").capabilities

    def found(**settings):
        return examination.of_advertised(Settings.read(settings), capabilities, 0.2)

    assert found().level == OK
    assert found(ADVERTISE_ADDRESS="tcp://127.0.0.1:4000").level == OK
    # 192.0.2.0/24 is for documentation, and no host has such an address.
    away = found(ADVERTISE_ADDRESS="tcp://192.0.2.1:4000")
    assert away.level == ERROR and "192.0.2.1, and cannot reach itself there" in away.text
    wrong = found(BIND_ADDRESS="tcp://192.0.2.1:0", INSECURE=True)
    assert wrong.level == ERROR and "assign requested address" in wrong.text
    open_to_all = found(BIND_ADDRESS="tcp://192.0.2.1:0")
    assert open_to_all.level == ERROR and "INSECURE" in open_to_all.text
    unknown = found(ADVERTISE_ADDRESS="tcp://no-such-host.invalid:1")
    assert unknown.level == ERROR and "cannot be resolved" in unknown.text


def test_something_else_at_the_advertised_address_is_not_this_host(taken):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        assert examination._problem_of_reaching(listener, "127.0.0.1", listener.getsockname()[1], 5.0) == ""
        assert examination._problem_of_reaching(listener, "127.0.0.1", taken, 0.05) == "no connection within 0.05 s"


def test_the_folder_of_journals_is_checked_even_if_it_is_not_made_yet(tmp_path):
    tmp_path.chmod(0o700)
    missing = list(examination.of_journals(str(tmp_path / "journals" / "default"), 1))
    (tmp_path / "journals").mkdir()
    (tmp_path / "journals").chmod(0o755)
    there = list(examination.of_journals(str(tmp_path / "journals"), 2**60))

    assert [one.text for one in missing][0] == f"this user may write into {tmp_path}"
    assert missing[0].level == missing[1].level == OK
    assert there[0].level == WARNING and "other users" in there[0].text
    assert there[1].level == WARNING and "may take 1073741824.0 GiB" in there[1].text


def test_a_folder_is_on_the_file_system_with_the_longest_mount_point(tmp_path):
    mounts = tmp_path / "mountinfo"
    disk = tmp_path / "a disk"
    disk.mkdir()
    escaped = str(disk).replace(" ", r"\040")
    lines = (
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
        f"2 1 0:2 / {tmp_path} rw shared:1 - tmpfs none rw",
        f"3 1 0:3 / {escaped} rw - nfs4 a:/b rw",
    )
    mounts.write_text("\n".join(lines))

    assert examination.file_system_of(disk, mounts) == "nfs4"
    assert examination.file_system_of(tmp_path, mounts) == "tmpfs"
    assert examination.file_system_of(tmp_path.parent, mounts) == "ext4"
    assert examination.file_system_of(disk, tmp_path / "none") == ""


def test_nodes_are_compared_by_clock_version_and_certificate():
    own = examination._own_version()

    def answer(**more):
        told = {"version": own, "host": "blue", "at": 1000.05, "instances": [], **more}
        return NodeAnswer("tcp://10.0.0.5:1", ["orders"], 0.1, told, "", 1000.0)

    fine = list(examination.of_nodes([answer(certificate={"name": "orders", "days_left": 100.0})]))
    bad = list(examination.of_nodes([
        answer(at=1300.0, version="0.0.7", certificate={"name": "orders", "days_left": 3.0}),
        NodeAnswer("tcp://10.0.0.6:1", ["web"], 3.0, None, "RpcTimeout: too late"),
    ]))  # fmt: skip

    assert [(one.check, one.level) for one in fine] == [
        ("nodes", OK), ("clock", OK), ("certificates", OK), ("versions", OK),
    ]  # fmt: skip
    assert [(one.check, one.level) for one in bad] == [
        ("clock", ERROR), ("certificates", WARNING), ("nodes", WARNING), ("nodes", OK), ("versions", WARNING),
    ]  # fmt: skip
    assert "299.9 s ahead of" in bad[0].text or "300.0 s ahead of" in bad[0].text


def test_what_is_in_order_is_told_of_all_nodes_together():
    told = {"version": examination._own_version(), "host": "blue", "instances": []}
    shown = [{"certificate": {"name": "orders", "days_left": 100.0 + number}} for number in range(200)]
    nodes = [NodeAnswer("tcp://10.0.0.5:1", ["orders"], 0.1, {**told, "at": 1000.0, **one}, "", 1000.0) for one in shown]

    findings = list(examination.of_nodes(nodes))

    assert [one.text for one in findings[:3]] == [
        "200 nodes answer (orders)",
        "the clocks of 200 nodes agree with this host's to within 0.1 s",
        "the certificates of 200 nodes are valid for at least 100 more days",
    ]
    assert len(findings) == 4


# --- the command --------------------------------------------------------------------------------------------------------

SHOP = """
    from zmqservices.rpc import rpc


    class Orders:
        name = "orders"

        @rpc
        def place(self):
            pass
"""


@pytest.mark.system
@pytest.mark.timeout(180)
def test_a_host_in_order_and_a_broken_one(start, zmqservices, write, tmp_path, taken, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("shop.py", SHOP)
    tmp_path.chmod(0o700)
    settings = {"DIRECTORY": f"local:{free_port()}", "JOURNAL_FOLDER": str(tmp_path), "JOURNAL_MAX_BYTES": 2**20}
    write("good.yaml", yaml.safe_dump(settings))
    orders = start("run", "shop", "-c", "good.yaml")
    orders.until("Services started")

    shown = zmqservices("check", "-c", "good.yaml", "--timeout", "20")
    with config.patch({}):
        code = main(["check", "-c", "good.yaml", "--timeout", "20", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert (code, shown.returncode) == (0, 0)
    assert {one["level"] for one in found if one["check"] not in ("files", "journal")} == {OK}
    assert {one["check"] for one in found} == {
        "settings", "files", "security", "journal", "directory", "address", "nodes", "clock", "versions",
    }  # fmt: skip
    assert "ok       nodes         1 node answers (orders)" in shown.stdout and "\x1b" not in shown.stdout

    write("bad.yaml", yaml.safe_dump({
        "DIRECTORY": f"tcp://127.0.0.1:{free_port()}", "BIND_ADDRESS": f"tcp://127.0.0.1:{taken}", "rpc_timout": 3,
    }))  # fmt: skip
    with config.patch({}):
        assert main(["check", "-c", "bad.yaml", "--timeout", "0.5"]) == 1
        bad = capsys.readouterr().out
        assert main(["check", "-d", "HEARTBEAT=soon"]) == 1
        assert "HEARTBEAT is 'soon'" in capsys.readouterr().out
        assert main(["check", "-c", "missing.yaml"]) == 2
    assert "connection refused" in bad and "-> start the server there, or correct DIRECTORY" in bad
    assert "address already in use" in bad
    assert "-> write 'rpc_timeout' if that is meant" in bad
    orders.signal(signal.SIGTERM)
    assert orders.end() == 0


def test_colours_are_for_terminals_that_want_them(monkeypatch, capsys):
    finding = diagnosis.of_space("/var\x1b[2J", 5, 10)
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = []
    monkeypatch.setattr(click, "echo", shown.append)

    show(finding)
    monkeypatch.setenv("NO_COLOR", "1")
    show(finding)

    assert shown[0].startswith("\x1b[31m\x1b[1merror  ")
    assert shown[2].startswith("error    journal")
    assert all(r"/var\x1b[2J" in line for line in (shown[0], shown[2]))
    assert shown[3].startswith(" " * 21) and "-> " in shown[3]


def test_the_page_of_the_command_line_shows_what_is_printed(monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    (block,) = re.findall(r"It changes nothing::\n\n((?:    .*\n)+)", (DOCS / "cli.rst").read_text("utf-8"))

    for finding in (
        *diagnosis.of_settings("", {}, "config.yaml"),
        diagnosis.of_descriptors(1024, 1024, 3),
        diagnosis.of_space("/var/lib/shop", int(60.5 * 2**30), 2**30),
        diagnosis.of_registry("10.0.0.5:4190", "connection refused", False),
    ):
        show(finding)

    assert capsys.readouterr().out == textwrap.dedent(block)
