"""Keys of a running cluster are revoked, renewed, replaced and signed by another authority; no honest call fails.

Two registries and two instances on three hosts, each process with a folder of its own; callers here and on the third host.
"""

import logging
import os
import shutil
import sys
from contextlib import nullcontext

import pytest

import discovery
from discovery.security.authority import Authority
from discovery.security.keys import Keys
from discovery.security.verdicts import short
from tests.ports import free_port
from tests.system.clusters import QUICK
from tests.system.hosts import Hosts, why_not
from tests.system.load import Load, told
from tests.system.processes import eventually
from tests.system.remote import Remote

NODES = {
    "maths-1": {"serves": ("maths",), "registers": ("maths",)},
    "maths-2": {"serves": ("maths",), "registers": ("maths",)},
    "honest": {"calls": ("maths",)},
    "thief": {"calls": ("maths",)},
}


class Closed:
    """What the authority does reaches only the folders to which it is copied. Without `hosts` all is on loopback."""

    def __init__(self, stage, folder, hosts=()):
        self._stage = stage
        self._prefixes = [("ip", "netns", "exec", host.name) for host in hosts] or [()] * 3
        addresses = [host.host for host in hosts] or ["127.0.0.1"] * 3
        self.authority = Authority.create(folder / "authority")
        self.folders = folder / "hosts"
        for name, permissions in NODES.items():
            shutil.copytree(self.authority.issue(name, permissions), self.folders / name)
        urls = [f"tcp://{addresses[number]}:{free_port()}" for number in (0, 1)]
        self.url = ",".join(urls)
        self._urls = urls
        #: Which folder of the authority each registry has.
        self._issued = {f"registry-{number}": "registry" for number in (0, 1)}
        for name in self._issued:
            shutil.copytree(self.authority.folder / "registry", self.folders / name)
        self.registries = [self._start_registry(number) for number in (0, 1)]
        for registry in self.registries:
            registry.has_said("serving at")
        self.maths = [
            self._start(number, f"maths-{number}", "zmqservices", "run", "tests.system.services.maths",
                        *(part for item in self.settings(f"maths-{number}").items() for part in ("-d", "{}={}".format(*item))))
            for number in (1, 2)
        ]  # fmt: skip
        for maths in self.maths:
            maths.has_said("Services started")

    def _start(self, host, name, module, *arguments):
        # Nobody has said that this network is trusted.
        return self._stage.start(name, [*self._prefixes[host], sys.executable, "-m", module, *map(str, arguments)])

    def _start_registry(self, number):
        name = f"registry-{number}"
        options = ("--bind", self._urls[number], "--ttl", "2", "--security", self.folders / name)
        return self._start(number, name, "discovery", "serve", *options)

    def replace_registry(self, number, name):
        """The registry gets the folder that was issued as `name`, and starts again."""
        self.registries[number].terminate()
        self.registries[number].wait()
        self._issued[f"registry-{number}"] = name
        shutil.rmtree(self.folders / f"registry-{number}")
        shutil.copytree(self.authority.folder / name, self.folders / f"registry-{number}")
        self.registries[number] = self._start_registry(number)

    def settings(self, name):
        return {
            **QUICK, "DIRECTORY": self.url, "SECURITY": str(self.folders / name), "DIRECTORY_CACHE": "none",
            "rpc_wait_for_service": 10,
        }  # fmt: skip

    def client(self, name):
        return Remote.start(self._stage, self.settings(name), self._prefixes[2])

    def copy(self, authority, *files):
        """These files of the authority's folder of each node go to the nodes, one after the other."""
        for folder in sorted(self.folders.iterdir()):
            node = self._issued.get(folder.name, folder.name)
            for file in files:
                replace(authority.folder / node / file, folder / file)

    def newcomer(self, authority):
        """The folder of a node that trusts this authority alone."""
        folder = self.folders.parent / "newcomer"
        shutil.copytree(self.folders / "honest", folder)
        (folder / "revoked").unlink()
        for file in ("node.certificate", "registry"):
            replace(authority.folder / "honest" / file, folder / file)
        replace(authority.folder / "authority", folder / "authorities")
        return folder


def serials(folder):
    """The certificates that the node with this folder knows to be revoked."""
    return set().union(*(one.serials for one in Keys.read(folder).trust.revoked.values()))


def replace(path, to):
    shutil.copy(path, to.with_name(".new"))
    os.replace(to.with_name(".new"), to)


@pytest.fixture
def closed(stage, tmp_path):
    reason = why_not()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must test hosts of their own: {reason}")
    with nullcontext(()) if reason else Hosts(3, with_this=True) as hosts:
        yield Closed(stage, tmp_path, hosts)


@pytest.mark.timeout(300)
def test_no_honest_call_fails_while_keys_are_revoked_and_renewed_and_the_authority_changes(closed, tmp_path, caplog):
    caplog.set_level(logging.INFO, "discovery.security")
    thief = closed.client("thief")
    assert thief.call("maths.add", 2, 3)["value"] == 5
    thief.begin("maths.pause", 120, timeout=120)

    with Load(closed.settings("honest"), lambda remote, number: remote.maths.add(number, 1), greenlets=8, pause=0.01) as load:
        load.wait_for(50)

        # One of the registries alone is told. The list travels on from there, and the thief's call in flight ends at once.
        closed.authority.revoke("thief")
        replace(closed.authority.folder / "revoked", closed.folders / "registry-1" / "revoked")
        in_flight = thief.end()
        # No instance can be asked any more, or one that has just learned of it refuses the call.
        eventually(lambda: "was revoked" in thief.call("maths.add", 2, 3, timeout=10).get("text", ""), what="a refusal")
        eventually(lambda: all((closed.folders / name / "revoked").exists() for name in NODES if name != "thief"))
        load.wait_for_more(50)

        # Certificates are renewed one after the other.
        for name in (*(name for name in NODES if name != "thief"), "registry"):
            closed.authority.renew(name)
        shutil.rmtree(closed.folders / "thief")
        closed.copy(closed.authority, "node.certificate")
        for maths in closed.maths:
            maths.has_said("takes the place of the former one")
        load.wait_for_more(50)

        registries = list(closed.registries)
        # Each registry gets a key of its own, and the key that they shared is revoked. One of them alone is told of both.
        for number in (0, 1):
            closed.authority.issue(f"own-{number}", is_registry=True)
        replace(closed.authority.folder / "own-1" / "registry", closed.folders / "registry-1" / "registry")
        nodes = [closed.folders / name for name in NODES if name != "thief"]
        eventually(lambda: all(len(Keys.read(folder).registry_keys) == 3 for folder in nodes), what="the new keys are known")
        with discovery.open_directory(closed.url, keys=Keys.read(nodes[0]), services=["maths"]) as reader:
            seen = []
            eventually(lambda: len(reader.service("maths")) == 2)
            reader.subscribe(lambda view: seen.append(len(view.service("maths"))))
            for number in (0, 1):
                boots = {one["boot_id"] for one in reader.view().registries}
                closed.replace_registry(number, f"own-{number}")
                eventually(lambda: {one["state"] for one in reader.view().registries} == {"up"}  # noqa: B023
                           and {one["boot_id"] for one in reader.view().registries} != boots)  # noqa: B023
                load.wait_for_more(50)
            serial = closed.authority.revoke("registry")
            replace(closed.authority.folder / "revoked", closed.folders / "registry-0" / "revoked")
            eventually(lambda: all(serial in serials(folder) for folder in nodes), what="the shared key is revoked")
            load.wait_for_more(50)
            assert {one["state"] for one in reader.view().registries} == {"up"} and set(seen) == {2}

        # Another authority takes the place of the first. All trust both before the first one shows a certificate of the new one.
        successor = Authority.create(tmp_path / "successor", former=closed.authority.folder)
        closed.copy(successor, "authorities")
        both = ", ".join(sorted(short(one.public_key) for one in (closed.authority, successor)))
        for maths in closed.maths:
            maths.has_said(f"trusted authorities by {closed.folders / maths.name}: {both}")
        eventually(lambda: f"trusted authorities by {closed.folders / 'honest'}: {both}" in caplog.text)
        with discovery.open_directory(closed.url, keys=Keys.read(closed.newcomer(successor)), services=["maths"]) as newcomer:
            eventually(lambda: [one["state"] for one in newcomer.view().registries] == ["up", "up"])
            closed.copy(successor, "node.certificate", "registry")
            # This one believes nothing of the first authority any more.
            eventually(lambda: len(newcomer.service("maths")) == 2, what="both instances are signed anew")
        serial = Keys.read(closed.folders / "honest").certificate.serial
        eventually(lambda: f"the certificate {serial} in" in caplog.text, what="the caller shows its new certificate")
        load.wait_for_more(50)
        for folder in closed.folders.iterdir():
            replace(successor.folder / "authority", folder / "authorities")
        with discovery.open_directory(closed.url, keys=Keys.read(closed.folders / "honest"), services=["maths"]) as reader:
            eventually(lambda: [one["state"] for one in reader.view().registries] == ["up", "up"])
            eventually(lambda: len(reader.service("maths")) == 2, what="the registries go on with the new authority alone")
        load.wait_for_more(200)

    assert not load.failed(), told(load.failed())
    assert [one.value for one in load.outcomes] == [one.number + 1 for one in load.outcomes]
    assert in_flight["error"] == "Forbidden" and "was revoked" in in_flight["text"], in_flight
    assert any("cut off thief" in maths.output() for maths in closed.maths)
    assert all("of 'thief' was revoked" in registry.output() for registry in registries)
