"""Calls that arrive at a rate, up to and beyond what the server can do: does it go on answering in time?

Every call carries a little work of a known price, so that the server, and not the client, is what saturates.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from bench import machine, table
from bench.processes import Child, ChildFailed, cpu_of
from bench.stage import GroupState, Stage
from bench.vitals import rss_of

#: Seconds for which the saturating rate is measured, and calls in flight for it.
CALIBRATION, IN_FLIGHT = 3.0, 64
PATIENCE = 60.0


def paced(standing: GroupState, job: dict[str, Any], stage: Stage) -> Child:
    """A client process that has had its first answer. It waits for nothing: its time runs."""
    command = [sys.executable, "-m", "bench.paced", standing.address, json.dumps(job)]
    child = Child(command, stage.folder / "paced.log", is_asked=True)
    child.read_line(PATIENCE)
    return child


def saturating_rate(standing: GroupState, spin: float, stage: Stage) -> float:
    """Calls per second of a closed loop."""
    job = {"closed": IN_FLIGHT, "seconds": CALIBRATION, "spin": spin}
    child = paced(standing, job, stage)
    try:
        rate: float = json.loads(child.read_line(PATIENCE))["rate"]
        return rate
    finally:
        child.stop()


#: Whose saturating rate the loads are parts of, whatever is measured.
USUAL = "zmqservices"


def run(
    loads: Sequence[float], seconds: float, spin: float, timeout: float, names: Sequence[str] = (USUAL,), parts: int = 1
) -> Iterator[dict[str, Any]]:
    """A line for each load, a part of the saturating rate, and subject."""
    with Stage() as stage:
        full = saturating_rate(stage.standing(USUAL), spin, stage)
        for load, name in product(loads, names):
            standing = stage.standing(name)
            line: dict[str, Any] = {"kind": "openloop", "subject": name, "load": load, "rate": round(full * load, 1)}
            line["saturating_rate"] = round(full, 1)
            job = {"rate": full * load, "seconds": seconds, "timeout": timeout, "spin": spin, "parts": parts, "every": 0}
            child = paced(standing, job, stage)
            try:
                before = cpu_of(standing.server_pids())
                line.update(json.loads(child.read_line(seconds + timeout + PATIENCE)))
                line["server_cpu_us"] = round((cpu_of(standing.server_pids()) - before) / max(line["offered"], 1) * 1e6, 1)
                line["server_rss_mb"] = round(sum(map(rss_of, standing.server_pids())), 1)
            except ChildFailed as exc:
                line.update(case=f"open loop, {load}", failed=str(exc))
            finally:
                child.stop()
            yield {**line, "seconds": seconds, "spin": spin, "timeout": timeout, **machine.facts()}


HEADINGS = [
    "load", "subject", "offered/s", "goodput/s", "in time", "p50 ms", "p99 ms", "p99.9 ms", "failed after ms", "client lag ms",
    "CPU us/call", "MiB", "errors",
]  # fmt: skip


def rows(lines: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each load."""
    return [
        [
            f"{line['load']:.2f}",
            line["subject"],
            table.number(line["rate"]),
            table.number(line["goodput"]),
            table.percent(line["goodput"] / line["rate"]),
            *(table.number(line[name] / 1e3, 1) for name in ("p50_us", "p99_us", "p999_us", "failed_p50_us")),
            table.number(line["lag_ms"], 1),
            table.number(line["server_cpu_us"], 1),
            table.number(line["server_rss_mb"]),
            ", ".join(f"{count} {name}" for name, count in line["errors"].items()) or "none",
        ]
        for line in lines
        if line["kind"] == "openloop" and "failed" not in line
    ]


def text(lines: list[dict[str, Any]]) -> str:
    return "\n\n".join([table.grid(HEADINGS, rows(lines)), *table.where(lines)])
