"""The examples do what they say: as plain classes, in one process, and as the demo in many."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from examples.hello import CacheClient, Greeter, HelloWorld
from examples.report import Report
from examples.words import NotReadable, Words
from tests.ports import free_port
from zmqservices.runners import run_services
from zmqservices.standalone.rpc import ClusterRpcProxy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """A configuration whose local directory is nobody else's."""
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(free_port()))
    yield {"NAMESPACE": "examples", "rpc_timeout": 10}


def test_hello_is_a_plain_class() -> None:
    service = HelloWorld()
    service.cache = CacheClient()

    assert service.hello("Ada") == "Hello, Ada!"
    assert service.cache.get("Ada") == "Hello, Ada!"


def test_the_greeter_asks_for_everybody_at_once() -> None:
    service = Greeter()
    service.hello_world = Mock()
    service.hello_world.hello.call_async.side_effect = lambda name: Mock(**{"result.return_value": f"Hi {name}"})

    assert service.greet_all(["a", "b"]) == ["Hi a", "Hi b"]


def test_words_counts(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("to be or not to be")

    counted = Words().count(str(text), top=1)

    assert (counted["words"], counted["different"], counted["top"]) == (6, 4, [("to", 2)])


def test_the_class_attribute_is_the_declaration_and_the_instance_attribute_the_client(
    alone: dict[str, object],
) -> None:
    with run_services(alone, HelloWorld, Greeter), ClusterRpcProxy(alone) as cluster:
        what = cluster.hello_world.what_is_cache()
        greetings = cluster.greeter.greet_all(["Ada", "Grace"])

    assert "[unbound]" in what["on the class"]
    assert "CacheClient" in what["on the instance"]
    assert greetings == ["Hello, Ada!", "Hello, Grace!"]


def test_a_report_asks_for_a_file_once_and_a_bad_file_is_named(alone: dict[str, object], tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("one two three")

    with run_services(alone, Words, Report), ClusterRpcProxy(alone) as cluster:
        first = cluster.report.report([str(text)] * 2)
        again = cluster.report.report([str(text)])
        with pytest.raises(NotReadable, match="missing"):
            cluster.words.count(str(tmp_path / "missing"))

    assert (first["words"], first["asked"], again["asked"]) == (6, 1, 0)


@pytest.mark.system
@pytest.mark.timeout(180)  # Eight processes; the machine may be busy.
def test_the_demo_holds_what_it_claims() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "examples.demo"], cwd=ROOT, capture_output=True, text=True, timeout=170, check=False
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.count("  yes  ") == 4
