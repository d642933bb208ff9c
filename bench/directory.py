"""What a large directory costs: its registry, and the clients that care for a part of it.

Holders in one process announce all records of 100 services. Then all clients start at the same moment, some dozens in one
process, each a directory client with a thread and connections of its own, which cares for 10 of the services. Last, single
records change, and each client notes when it sees that.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine, summary, table
from bench.ours.watchers import PATIENCE
from bench.processes import Child, ChildFailed, busy_seconds, cpu_of, free_port
from bench.venvs import CACHE

#: Processes that the clients are in, at most. With many clients in one, they wait for the interpreter's lock most of the time.
PROCESSES = 20
#: Seconds of rest in which CPU time is counted, after so many in which everything settles.
REST, SETTLE = 5.0, 4.0
#: Changes, and seconds between two.
CHANGES, PAUSE = 50, 0.2


def run(kinds: list[str], numbers: list[int], clients: int, services: int, rounds: int) -> Iterator[dict[str, Any]]:
    """A line for each kind of directory, number of records and round."""
    for turn in range(rounds):
        for kind in kinds:
            for number in numbers:
                line = {"kind": "directory", "of": kind, "records": number, "round": turn}
                line.update(clients=clients, services=services)
                try:
                    line.update(one(kind, number, clients, services, CACHE / "run" / "directory"))
                except (ChildFailed, OSError) as exc:
                    line.update(subject="directory", case=f"{kind}, {number} records", failed=str(exc))
                yield {**line, "at": round(time.time(), 1), **machine.facts()}


def one(kind: str, number: int, clients: int, services: int, folder: Path) -> dict[str, Any]:
    """Start everything for one number of records, measure, and end it again."""
    with ExitStack() as stack:
        url, server = _server(stack, kind, folder)
        busy = busy_seconds()[0], time.monotonic()
        holders = _part(stack, url, {"records": number}, folder)
        processes = min(PROCESSES, clients)
        share = clients // processes
        crowds = [
            _part(stack, url, {"clients": share, "services": services, "seed": seed}, folder) for seed in range(processes)
        ]
        children = [child for crowd in crowds for child in crowd.pids()]
        before = cpu_of(server.pids()), cpu_of(children)
        began = time.monotonic()
        joined = _ask(crowds, {"do": "join"})
        ready = max(one["done"] for one in joined) - began
        join_cpu = cpu_of(server.pids()) - before[0], cpu_of(children) - before[1]
        time.sleep(SETTLE)
        before, began = (cpu_of(server.pids()), cpu_of(children)), time.monotonic()
        time.sleep(REST)
        rested = time.monotonic() - began
        rest = (cpu_of(server.pids()) - before[0]) / rested, (cpu_of(children) - before[1]) / rested
        _ask(crowds, {"do": "tell"})
        before, began = (cpu_of(server.pids()), 0.0), time.monotonic()
        _ask([holders], {"do": "change", "times": CHANGES, "pause": PAUSE})
        change_cpu = (cpu_of(server.pids()) - before[0]) / CHANGES
        time.sleep(1.0)
        told = _ask(crowds, {"do": "tell"})
        seen = sorted(delay for one in told for delay in one["seen"])
        rss = sum(one["rss_kib"] for one in told)
        mine = sum(cpu_of(child.pids()) for child in (server, holders, *crowds))
        return {
            "ready_s": round(ready, 2),
            "server_join_cpu_s": round(join_cpu[0], 2),
            "clients_join_cpu_s": round(join_cpu[1], 2),
            "held": sum(one["held"] for one in joined) // (share * processes),
            "server_rest": round(rest[0], 4),
            "clients_rest": round(rest[1], 4),
            "server_rss_mb": round(_rss_mb(server.pids()), 1),
            "client_rss_mb": round(rss / 1024 / (share * processes), 2),
            "seen": len(seen),
            "seen_p50_ms": round(_quantile(seen, 0.5) * 1e3, 1),
            "seen_p99_ms": round(_quantile(seen, 0.99) * 1e3, 1),
            "change_cpu_ms": round(change_cpu * 1e3, 2),
            "others": round((busy_seconds()[0] - busy[0] - mine) / (time.monotonic() - busy[1]), 2),
        }


def _server(stack: ExitStack, kind: str, folder: Path) -> tuple[str, Child]:
    port = free_port()
    if kind == "registry":
        command = [sys.executable, "-m", "discovery", "serve", "--bind", f"tcp://127.0.0.1:{port}"]
        url = f"tcp://127.0.0.1:{port}"
    else:
        program = shutil.which("etcd", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            raise ChildFailed("etcd is not installed; `apt-get install etcd-server` brings it")
        held = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-etcd-"))
        peer = f"http://127.0.0.1:{free_port()}"
        command = [
            program, "--data-dir", held, "--listen-client-urls", f"http://127.0.0.1:{port}", "--advertise-client-urls",
            f"http://127.0.0.1:{port}", "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--unsafe-no-fsync",
        ]  # fmt: skip
        url = f"etcd://127.0.0.1:{port}/bench"
    server = Child(command, folder / f"{kind}.log")
    stack.callback(server.stop)
    server.wait_for_port(f"127.0.0.1:{port}")
    return url, server


def _part(stack: ExitStack, url: str, job: dict[str, Any], folder: Path) -> Child:
    command = [sys.executable, "-m", "bench.ours.watchers", url, json.dumps(job)]
    child = Child(command, folder / "watchers.log", is_asked=True)
    stack.callback(child.stop)
    child.read_line(PATIENCE)
    return child


def _ask(children: list[Child], order: dict[str, Any]) -> list[dict[str, Any]]:
    for child in children:
        child.say(json.dumps(order))
    return [json.loads(child.read_line(2 * PATIENCE)) for child in children]


def _rss_mb(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/statm") as statm:
            total += int(statm.read().split()[1]) * 4
    return total / 1024


def _quantile(found: list[float], part: float) -> float:
    return found[min(int(len(found) * part), len(found) - 1)] if found else float("nan")


HEADINGS = [
    "clients", "records of each", "all ready s", "server CPU s", "clients CPU s", "server at rest", "server MiB", "a client MiB",
    "seen p50 ms", "p99 ms", "server ms/change", "others' cores",
]  # fmt: skip
SHOWN = (
    ("clients", 0), ("held", 0), ("ready_s", 2), ("server_join_cpu_s", 2), ("clients_join_cpu_s", 2), ("server_rest", 3),
    ("server_rss_mb", 0), ("client_rss_mb", 2), ("seen_p50_ms", 1), ("seen_p99_ms", 1), ("change_cpu_ms", 2), ("others", 2),
)  # fmt: skip


def rows(lines: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each kind and number of records: medians of its rounds."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "directory" and "failed" not in line:
            groups.setdefault((line["of"], line["records"]), []).append(line)
    return [
        [
            f"{kind}, {number:,} records",
            *(table.number(summary.median(line[name] for line in found), digits) for name, digits in SHOWN),
        ]
        for (kind, number), found in groups.items()
    ]


def text(lines: list[dict[str, Any]]) -> str:
    """All results as a table for a terminal."""
    parts = [table.grid(["", *HEADINGS], rows(lines))]
    for what, reasons in summary.failures(lines).items():
        parts.append(f"{what}: NOT MEASURED: {'; '.join(reasons)}")
    return "\n\n".join([*parts, *table.where(lines)])
