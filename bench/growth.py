"""Measures the cost of a call as the numbers of instances, clients and calls in flight grow."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine, measure, summary, table
from bench.processes import Child, ChildFailed, busy_seconds, children_of, cpu_of, free_port, zmq_cpu_of
from bench.schedule import interleaved
from bench.venvs import CACHE

NUMBERS = {
    "instances": (1, 10, 100, 300, 1000),
    "clients": (1, 10, 100, 300, 1000),
    "in-flight": (1, 10, 100, 1000, 10_000),
}
TITLES = {
    "instances": "instances known to one client, 64 calls in flight",
    "clients": "clients of one server, 64 calls in flight in all",
    "in-flight": "calls in flight from one client to one server",
}
IN_FLIGHT = 64
#: The instances, and the clients, that share a process. Each takes about ten files and two threads.
PER_PROCESS = 250
#: Seconds that hundreds of instances or clients may take to start.
PATIENCE = 120.0


def run(axes: list[str], most: int | None, rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """A line for each axis, number and round."""
    for axis in axes:
        numbers = [number for number in NUMBERS[axis] if most is None or number <= most]
        for turn, _, number in interleaved(rounds, [axis], numbers):
            line = {"kind": "growth", "axis": axis, "number": number, "round": turn, "at": round(time.time(), 1)}
            try:
                line.update(one(axis, number, seconds, CACHE / "run" / "growth"))
            except (ChildFailed, OSError) as exc:
                line.update(subject="growth", case=f"{number} {axis}", failed=str(exc))
            yield {**line, **machine.facts()}


def one(axis: str, number: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Start everything for one number, load it, and end it again."""
    instances = number if axis == "instances" else 1
    clients = number if axis == "clients" else 1
    in_flight = number if axis == "in-flight" else IN_FLIGHT
    with ExitStack() as stack:
        url, servers = _hosts(stack, instances, folder)
        crowds = []
        for share in _shares(clients):
            part = max(in_flight * share // clients, 1)
            job = {"clients": share, "in_flight": part, "seconds": seconds, "links": instances * share}
            command = [sys.executable, "-m", "bench.ours.crowd", url, json.dumps(job)]
            crowds.append(Child(command, folder / "crowd.log", is_asked=True))
            stack.callback(crowds[-1].stop)
        for crowd in crowds:
            crowd.read_line(PATIENCE)
        pids = [pid for server in servers for pid in children_of(server.process.pid)]
        before = cpu_of(pids), 0.0, busy_seconds(), time.monotonic(), zmq_cpu_of(pids)
        for crowd in crowds:
            crowd.say("go")
        results = [json.loads(crowd.read_line(seconds + PATIENCE)) for crowd in crowds]
        after = cpu_of(pids), 0.0, busy_seconds(), time.monotonic(), zmq_cpu_of(pids)
        held = {
            name: round(sum(result[name] for result in results), 1)
            for name in ("links", "client_rss_mb", "client_files", "client_threads")
        }
        return {**measure.line(results, before, after, pids), **held}


def _shares(number: int) -> list[int]:
    whole, rest = divmod(number, PER_PROCESS)
    return [PER_PROCESS] * whole + ([rest] if rest else [])


def _hosts(stack: ExitStack, instances: int, folder: Path) -> tuple[str, list[Child]]:
    """Processes that host the instances, and the URL of a directory that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    ports: list[int] = []
    while len(ports) < instances:
        port = free_port()
        if port not in ports:
            ports.append(port)
    path = folder / "directory.json"
    path.write_text(json.dumps({"adder": [f"tcp://127.0.0.1:{port}" for port in ports]}))
    url, servers = f"static:{path}", []
    for start in range(0, instances, PER_PROCESS):
        share = [str(port) for port in ports[start : start + PER_PROCESS]]
        servers.append(Child([sys.executable, "-m", "bench.ours.hosts", url, *share], folder / "hosts.log", is_asked=True))
        stack.callback(servers[-1].stop)
    for server in servers:
        server.read_line(PATIENCE)
    return url, servers


HEADINGS = [
    "calls/s", "spread", "p50 us", "p99 us", "CPU us/call", "server", "client", "CPU to least", "links", "client MiB",
    "server MiB",
]  # fmt: skip
SHOWN = ("cpu_us", "server_cpu_us", "client_cpu_us")


def rows(lines: list[dict[str, Any]], axis: str) -> list[list[str]]:
    """A row for each number; CPU also as a multiple of the cheapest."""
    by_number: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "growth" and line["axis"] == axis and "failed" not in line:
            by_number.setdefault(line["number"], []).append(line)
    middle = {number: summary.median(line["cpu_us"] for line in found) for number, found in by_number.items()}
    return [
        [
            f"{number:,}",
            table.number(summary.median(line["rate"] for line in found)),
            table.percent(summary.spread(line["rate"] for line in found)),
            *(table.number(summary.median(line[name] for line in found)) for name in ("p50_us", "p99_us")),
            *(table.number(summary.median(line[name] for line in found), 1) for name in SHOWN),
            table.number(middle[number] / min(middle.values()), 2),
            *(table.number(summary.median(line[name] for line in found)) for name in ("links", "client_rss_mb", "server_rss_mb")),
        ]
        for number, found in sorted(by_number.items())
    ]


def text(lines: list[dict[str, Any]]) -> str:
    parts = []
    for axis, title in TITLES.items():
        found = rows(lines, axis)
        if found:
            parts.append(f"{title}\n{table.grid(['', *HEADINGS], found)}")
    for what, reasons in summary.failures(lines).items():
        parts.append(f"{what}: NOT MEASURED: {'; '.join(reasons)}")
    return "\n\n".join([*parts, *table.where(lines)])
