"""How long it takes to import the package, beyond what its dependencies take. Each time in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from bench import machine, summary, table
from bench.processes import HOME, usual_environment

#: What is imported, after which dependencies.
WHAT = {
    "the package": ("zmqservices", ""),
    "a client": ("zmqservices.standalone.rpc", "gevent zmq msgpack"),
    "a service": (
        "zmqservices.rpc zmqservices.events zmqservices.timer zmqservices.dependency_providers zmqservices.runners",
        "gevent zmq msgpack gevent.event gevent.threadpool",
    ),
    "a service with HTTP": (
        "zmqservices.rpc zmqservices.web.handlers zmqservices.runners", "gevent zmq msgpack werkzeug gevent.pywsgi",
    ),
}

PROGRAM = """
import importlib, json, sys, time
own, needed = (names.split() for names in sys.argv[1:])
took = []
for names in (needed, own):
    began = time.perf_counter()
    for name in names:
        importlib.import_module(name)
    took.append((time.perf_counter() - began) * 1e3)
print(json.dumps(took))
"""

HEADINGS = ["", "its dependencies ms", "itself ms"]


def run(repeats: int) -> Iterator[dict[str, Any]]:
    """A line per process: what is imported alternates. Before them, one of each makes sure that all is compiled."""
    for number in range(-1, repeats):
        for name, (own, needed) in WHAT.items():
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, own, needed],
                env={**usual_environment(), "PYTHONPATH": str(HOME)},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            if number < 0:
                continue
            dependencies, itself = json.loads(done.stdout)
            line = {"kind": "import", "what": name, "round": number}
            yield {**line, "dependencies_ms": round(dependencies, 2), "own_ms": round(itself, 2), **machine.facts()}


def rows(lines: list[dict[str, Any]]) -> list[list[str]]:
    """Medians."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "import":
            by_name.setdefault(line["what"], []).append(line)
    return [
        [name, *(table.number(summary.median(line[key] for line in measured), 1) for key in ("dependencies_ms", "own_ms"))]
        for name, measured in by_name.items()
    ]


def text(lines: list[dict[str, Any]]) -> str:
    return table.grid(HEADINGS, rows(lines))
