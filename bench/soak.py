"""Runs minutes of load, and records the resources of both processes: memory, files, threads, greenlets, objects."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from bench import machine, table
from bench.openloop import PATIENCE, paced, saturating_rate
from bench.processes import ChildFailed
from bench.stage import Stage
from bench.vitals import files_of, rss_of, threads_of

#: Seconds that a call may take.
TIMEOUT = 5.0
SIDES = ("server", "client")
HELD = ("rss_mb", "files", "threads", "greenlets", "objects")


def run(seconds: float, load: float, every: float) -> Iterator[dict[str, Any]]:
    """A line for each sample."""
    with Stage() as stage:
        standing = stage.standing("zmqservices")
        rate = saturating_rate(standing, 0.0, stage) * load
        job = {"rate": rate, "seconds": seconds, "timeout": TIMEOUT, "spin": 0.0, "every": every}
        child = paced(standing, job, stage)
        pids = {"server": standing.server.process.pid, "client": child.process.pid}
        start = time.monotonic()
        try:
            while True:
                sample = json.loads(child.read_line(every + TIMEOUT + PATIENCE))
                if "client" not in sample:
                    return
                for side in SIDES:
                    pid = pids[side]
                    sample[side].update(rss_mb=round(rss_of(pid), 2), files=files_of(pid), threads=threads_of(pid))
                passed = round(time.monotonic() - start, 2)
                yield {"kind": "soak", "passed": passed, "rate": round(rate, 1), **sample, **machine.facts()}
        except ChildFailed as exc:
            yield {"kind": "soak", "subject": "soak", "failed": str(exc), **machine.facts()}
        finally:
            child.stop()


def samples(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["kind"] == "soak" and "failed" not in line]


def slope(times: list[float], values: list[float]) -> float:
    """The growth of values per hour, by least squares; 0 for fewer than two values."""
    count = len(times)
    if count < 2:
        return 0.0
    middle, level = sum(times) / count, sum(values) / count
    width = sum((at - middle) ** 2 for at in times)
    if not width:
        return 0.0
    return 3600 * sum((at - middle) * (value - level) for at, value in zip(times, values, strict=True)) / width


HEADINGS = ["", "first", "after a third", "last", "least", "most", "per hour (last two thirds)"]


def rows(lines: list[dict[str, Any]]) -> list[list[str]]:
    """The resources of each side. The growth leaves out the first third, in which caches and pools fill."""
    found = samples(lines)
    if not found:
        return []
    later = found[len(found) // 3 :]
    made = []
    for side in SIDES:
        for name in HELD:
            values = [line[side][name] for line in found]
            grown = slope([line["passed"] for line in later], [line[side][name] for line in later])
            shown = (values[0], later[0][side][name], values[-1], min(values), max(values), grown)
            made.append([f"{side} {name}", *(table.number(value, 1) for value in shown)])
    return made


def text(lines: list[dict[str, Any]]) -> str:
    found = samples(lines)
    if not found:
        return "\n".join(line["failed"] for line in lines if "failed" in line) or "nothing was measured"
    errors = sum(sum(line["errors"].values()) for line in found)
    told = (
        f"{found[-1]['passed']:.0f} s at {found[0]['rate']:,.0f} calls/s: {sum(line['answered'] for line in found):,} answered, "
        f"{errors:,} errors; median p99 {table.number(sorted(line['p99_us'] for line in found)[len(found) // 2] / 1e3, 2)} ms"
    )
    return "\n\n".join([table.grid(HEADINGS, rows(lines)), told, *table.where(lines)])
