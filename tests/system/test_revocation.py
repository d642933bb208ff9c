"""Keys of a running cluster are revoked and renewed: processes, each with its own folder, and honest calls all the time."""

import shutil
import sys
import threading

import pytest

from discovery.security.authority import Authority
from tests.ports import free_port
from tests.system.clusters import QUICK
from tests.system.processes import eventually
from tests.system.remote import Remote
from zmqservices.standalone.rpc import ClusterRpcProxy


class Closed:
    """A registry and a service with keys. What the authority does reaches only the folder to which it is copied."""

    def __init__(self, stage, folder):
        self.authority = Authority.create(folder / "authority")
        self.hosts = folder / "hosts"
        self.url = f"tcp://127.0.0.1:{free_port()}"
        permissions = {"maths": {"serves": ("maths",), "registers": ("maths",)}, "honest": {"calls": ("maths",)}}
        for name, lists in {**permissions, "thief": {"calls": ("maths",)}}.items():
            shutil.copytree(self.authority.issue(name, lists), self.hosts / name)
        shutil.copytree(self.authority.folder / "registry", self.hosts / "registry")
        serve = [sys.executable, "-m", "discovery", "serve", "--bind", self.url, "--ttl", "2"]
        self.registry = stage.start("registry", [*serve, "--security", str(self.hosts / "registry")])
        self.registry.has_said("serving at")
        definitions = [part for key, value in self.settings("maths").items() for part in ("-d", f"{key}={value}")]
        run = [sys.executable, "-m", "zmqservices", "run", "tests.system.services.maths", *definitions]
        self.maths = stage.start("maths", run)
        self.maths.has_said("Services started")

    def settings(self, name):
        return {
            **QUICK, "DIRECTORY": self.url, "SECURITY": str(self.hosts / name), "DIRECTORY_CACHE": "none",
            "rpc_wait_for_service": 2,
        }  # fmt: skip

    def copy(self, name, file):
        shutil.copy(self.authority.folder / name / file, self.hosts / name / file)


class Load:
    """Calls of an honest client in a thread of its own, from `with` to its end."""

    def __init__(self, settings):
        self._settings = settings
        self._is_over = threading.Event()
        self.answered, self.failures = 0, []
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        with ClusterRpcProxy(self._settings, timeout=20) as cluster:
            while not self._is_over.is_set():
                try:
                    assert cluster.maths.add(2, 3) == 5
                    self.answered += 1
                except Exception as exc:
                    self.failures.append(exc)
                    return

    def __enter__(self):
        self._thread.start()
        eventually(lambda: self.answered or self.failures, what="an honest call is answered")
        return self

    def __exit__(self, *exc_info):
        self._is_over.set()
        self._thread.join()


@pytest.fixture
def closed(stage, tmp_path):
    return Closed(stage, tmp_path)


def test_a_thief_is_cut_off_and_certificates_are_renewed_while_no_honest_call_fails(stage, closed):
    thief = Remote.start(stage, closed.settings("thief"))
    assert thief.call("maths.add", 2, 3)["value"] == 5

    with Load(closed.settings("honest")) as load:
        closed.authority.revoke("thief")
        # The registry alone is told. The list travels on from there.
        closed.copy("registry", "revoked")
        refused = eventually(lambda: thief.call("maths.add", 2, 3, timeout=5).get("text"), what="the thief is refused")
        later = thief.call("maths.add", 2, 3, timeout=5)

        for name in ("maths", "honest"):
            closed.authority.renew(name)
            closed.copy(name, "node.certificate")
        closed.maths.has_said("takes the place of the former one")
        answered = load.answered
        eventually(lambda: load.failures or load.answered > answered, what="honest calls go on")

    assert load.failures == []
    assert "was revoked" in refused + later["text"]
    assert "cut off thief" in closed.maths.output()
    assert "of 'thief' was revoked" in closed.registry.output()
    assert (closed.hosts / "maths" / "revoked").exists()
