"""The bench itself, with counts that say nothing: it must run, measure what it names, and leave no process behind."""

import json
import os
import subprocess
import sys

import pytest

from bench import imports, processes, venvs, wire
from bench.ours import services
from bench.peers.nats import Nats

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc")


def run(*words):
    return subprocess.run([sys.executable, "-m", "bench", *words], cwd=processes.HOME, capture_output=True, text=True, timeout=50)


@pytest.mark.system
def test_a_small_run_measures_what_it_names(tmp_path):
    path = tmp_path / "lines.jsonl"
    subjects = ["pyzmq", "pyzmq-hub", "zmqservices", "zmqservices-thread"]

    done = run("--rounds", "1", "--seconds", "0.02", "--cases", "64", "--subjects", ",".join(subjects), "--json", str(path))

    assert done.returncode == 0, done.stderr
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert [line["subject"] for line in lines] == subjects
    for line in lines:
        assert "failed" not in line
        assert line["calls"] > 0 and line["rate"] > 0 and line["server_cpu_us"] > 0
        assert line["p50_us"] <= line["p99_us"] <= line["p999_us"] <= line["max_us"]
    assert "add(), 64 in flight" in done.stdout


def test_a_name_that_means_nothing_is_refused():
    done = run("--subjects", "pyzmg")

    assert done.returncode == 2
    assert "'pyzmg'" in done.stderr


def test_a_missing_program_is_told_with_its_package(monkeypatch):
    monkeypatch.setattr("bench.venvs.shutil.which", lambda program: None)

    with pytest.raises(venvs.Unavailable, match="apt-get install nats-server"):
        venvs.interpreter(Nats())


def test_what_needs_nothing_runs_here():
    assert venvs.interpreter(services.OnTheHub()) == sys.executable


def test_a_child_that_ends_says_why(tmp_path):
    child = processes.Child([sys.executable, "-c", "raise SystemExit('no luck')"], tmp_path / "log", is_asked=True)

    with pytest.raises(processes.ChildFailed, match="no luck"):
        child.read_line(20)
    child.stop()


def test_cpu_of_a_process_is_its_own():
    before = processes.cpu_of([os.getpid()])
    while processes.cpu_of([os.getpid()]) < before + 0.005:
        sum(range(1000))

    assert processes.cpu_of([2**22 + 1]) == 0.0


def test_every_operation_of_the_wire_is_measured():
    lines = list(wire.run(repeats=1, seconds=0.0001))

    assert {line["operation"] for line in lines} == set(wire.operations())
    assert all(line["ns"] > 0 for line in lines)


def test_what_imports_take_is_measured_in_processes_of_their_own():
    found = list(imports.run(repeats=1))

    assert [line["what"] for line in found] == list(imports.WHAT)
    assert all(line["own_ms"] > 0 for line in found)
    # A client's dependencies are libraries; were they not imported before, their time would count as its own.
    assert found[1]["dependencies_ms"] > found[0]["dependencies_ms"]
    assert [row[0] for row in imports.rows(found)] == list(imports.WHAT)
