"""`python -m bench`: add() with 64 in flight and one at a time, next to a bare pyzmq echo, rounds interleaved.

Prints medians, and ratios taken within each round; `--json` prints a line per measurement instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import msgpack
import zmq

#: What is measured: name, kind of client, calls per round, calls in flight.
CASES = [
    ("bare pyzmq, 64 in flight", "bare", 40_000, 64),
    ("zmqservices, 64 in flight", "ours", 40_000, 64),
    ("plain thread, 64 in flight", "thread", 40_000, 64),
    ("bare pyzmq, one at a time", "bare", 4_000, 1),
    ("zmqservices, one at a time", "ours", 4_000, 1),
    ("plain thread, one at a time", "thread", 4_000, 1),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_of(process: subprocess.Popen[Any]) -> float:
    """User and system seconds that a running process has used (Linux)."""
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, *command], text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def servers() -> Iterator[tuple[dict[str, subprocess.Popen[str]], dict[str, str]]]:
    """The bare server, a registry of our own and the service, all on loopback."""
    directory = f"tcp://127.0.0.1:{free_port()}"
    environment = {**os.environ, "ZMQSERVICES_DIRECTORY": directory}
    with (
        running("-m", "bench.limits", "serve", stdout=subprocess.PIPE) as bare,
        running("-m", "discovery", "serve", "--bind", directory),
        running("-m", "zmqservices", "run", "bench.service", env=environment) as ours,
    ):
        assert bare.stdout is not None
        port = bare.stdout.readline().strip()
        yield (
            {"bare": bare, "ours": ours, "thread": ours},
            {"bare": port, "ours": directory, "thread": directory},
        )


def measure(kind: str, where: str, server: subprocess.Popen[str], calls: int, in_flight: int) -> dict[str, Any]:
    before = cpu_of(server)
    command = [sys.executable, "-m", "bench.client", kind, where, str(calls), str(in_flight)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout
    measured: dict[str, Any] = json.loads(output)
    measured["server_cpu"] = cpu_of(server) - before
    measured["rate"] = calls / measured["seconds"]
    measured["cpu_us"] = (measured["cpu"] + measured["server_cpu"]) / calls * 1e6
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--json", action="store_true", help="one line of JSON per measurement")
    options = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {name: [] for name, *_ in CASES}
    machine = {
        "python": platform.python_version(),
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "gevent": gevent.__version__,
        "msgpack": ".".join(map(str, msgpack.version)),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    with servers() as (processes, places):
        for round_number in range(options.rounds):
            for name, kind, calls, in_flight in CASES:
                measured = measure(kind, places[kind], processes[kind], calls, in_flight)
                results[name].append(measured)
                if options.json:
                    print(json.dumps({"case": name, "round": round_number, "at": time.time(), **measured, **machine}))
    if not options.json:
        print(f"{'':30s}{'calls/s':>10s}{'CPU us/call':>13s}{'rate to bare':>14s}{'CPU to bare':>13s}")
        for name, _kind, _calls, in_flight in CASES:
            yardstick = results["bare pyzmq, 64 in flight" if in_flight > 1 else "bare pyzmq, one at a time"]
            rows = results[name]
            print(
                f"{name:30s}{statistics.median(row['rate'] for row in rows):10,.0f}"
                f"{statistics.median(row['cpu_us'] for row in rows):13.1f}"
                f"{statistics.median(r['rate'] / y['rate'] for r, y in zip(rows, yardstick, strict=True)):14.2f}"
                f"{statistics.median(r['cpu_us'] / y['cpu_us'] for r, y in zip(rows, yardstick, strict=True)):13.2f}"
            )
        print(", ".join(f"{key} {value}" for key, value in machine.items()))


if __name__ == "__main__":
    main()
