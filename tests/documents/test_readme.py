"""The README's examples run as they stand there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

README = (Path(__file__).parents[2] / "README.rst").read_text(encoding="utf-8")


def blocks() -> list[str]:
    """The Python blocks, in their order."""
    found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README)
    return [textwrap.dedent(block) for block in found]


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Somebody with `greeting.py` in an empty folder, who runs commands there."""
    (tmp_path / "greeting.py").write_text(blocks()[0], encoding="utf-8")
    (tmp_path / "welcome.py").write_text(blocks()[2], encoding="utf-8")
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(free_port()))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    started: list[subprocess.Popen[str]] = []

    def zmqservices(*arguments: str, wait: bool = True) -> str:
        command = [sys.executable, "-m", "zmqservices", *arguments]
        if wait:
            return subprocess.run(
                command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
            ).stdout
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Services started: "):
                return line
        raise AssertionError("the service did not start")

    yield zmqservices
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        process.communicate(timeout=30)


@pytest.mark.system
def test_one_minute_to_the_first_call(newcomer: Any) -> None:
    assert newcomer("run", "greeting", wait=False) == "Services started: greeting\n"

    assert newcomer("call", "greeting.hello", "Ada") == '"Hello, Ada!"\n'
    assert "greeting" in newcomer("ls")


@pytest.mark.system
def test_from_another_service_and_from_any_program(newcomer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    newcomer("run", "greeting", "welcome", wait=False)

    answer = newcomer("call", "welcome.everybody", '["Ada", "Grace"]')
    exec(blocks()[1], {})

    assert json.loads(answer) == ["Hello, Ada!", "Hello, Grace!"]
    assert capsys.readouterr().out == "Hello, Ada!\n"


def test_in_a_unit_test_there_is_no_network() -> None:
    names: dict[str, Any] = {}
    exec(blocks()[2], names)
    exec(blocks()[3], names)

    names["test_everybody_is_greeted"]()


def test_every_document_that_is_named_is_there() -> None:
    named = set(re.findall(r"``((?:docs/)?[\w-]+\.rst)``", README))
    root = Path(__file__).parents[2]

    assert named
    assert [name for name in sorted(named) if not os.path.exists(root / name)] == []
