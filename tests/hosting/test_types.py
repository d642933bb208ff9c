"""The errors that a type checker reports for a service."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SERVICE = '''
from zmqservices.events import EventDispatcher
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import ClusterRpc, RpcProxy, rpc

class Cache(DependencyProvider):
    """Injects what has an `incr`."""

class Report:
    name = "report"
    words = RpcProxy("words")
    cluster = ClusterRpc()
    dispatch = EventDispatcher()
    cache = Cache()

    @rpc
    def make(self) -> int:
        self.dispatch("made", {"by": self.cache.incr(1)})
        return int(self.words.count("text")) + int(self.cluster["words"].count.call_async("text").result())

reveal_type(Report.words)
reveal_type(Report.cache)
Report().words.count.no_such_name_is_known_here
Report.words.count
'''


def test_an_injected_object_may_have_any_attribute_and_a_provider_only_its_own(tmp_path, pytestconfig):
    path = tmp_path / "report.py"
    path.write_text(SERVICE)

    # In a process of its own: the objects of mypy would stay in this one. What it read of other modules is kept for the next run.
    said = subprocess.run(
        [sys.executable, "-m", "mypy", str(path), "--config-file", str(ROOT / "setup.cfg"), "--follow-imports=silent",
         "--cache-dir", str(pytestconfig.cache.mkdir("mypy")), "--python-version", f"3.{sys.version_info.minor}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip

    assert 'report.py:21: note: Revealed type is "zmqservices.rpc.providers.ServiceRpc"' in said
    assert 'report.py:22: note: Revealed type is "report.Cache"' in said
    assert 'report.py:24: error: "ServiceRpc" has no attribute "count"' in said
    assert said.count("error:") == 1
