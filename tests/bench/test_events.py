"""Events are measured, and written down."""

import json
import subprocess
import sys

import pytest

from bench import events


@pytest.mark.system
def test_a_small_run_counts_what_was_delivered(tmp_path):
    path = tmp_path / "lines.jsonl"

    done = subprocess.run(
        [sys.executable, "-m", "bench", "events", "--events", "200", "--subscribers", "2", "--rounds", "1", "--json", path],
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["subject"] for line in lines] == ["pyzmq", "best-effort", "reliable"]
    assert [line.get("failed") for line in lines] == [None] * 3
    assert lines[-1]["arrived"] == 1.0
    assert [row[:2] for row in events.rows(lines)] == [["2", "pyzmq"], ["2", "best-effort"], ["2", "reliable"]]


def test_what_is_no_subject_is_told_with_those_there_are():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "events", "--subjects", "kafka"], capture_output=True, text=True, timeout=50
    )

    assert done.returncode == 2
    assert "'kafka' has no events to measure; there are pyzmq, best-effort, reliable, nats, nameko, all" in done.stderr
