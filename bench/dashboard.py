"""What the live map costs and how soon it shows a loss, with many nodes: one process for each instance.

The processes are forks of one that has imported the package, so that the machine has the memory for them. A real browser without
a window shows the page, and counts its own frames.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import machine, summary
from bench.ours.neighbours import COUNT
from bench.processes import busy_seconds, children_of, cpu_of, free_port
from tests.dashboard.page import Page
from tests.system.processes import Guardian, Process, Stage

#: Seconds in which all nodes must be up, and in which everything settles before a measurement.
PATIENCE, SETTLE = 300.0, 12.0
#: Processes that start at the same time.
AT_ONCE = 10

#: Notes how long each frame takes, in milliseconds.
FRAMES = """(() => {
    window.frames_noted = []; let last = performance.now();
    const step = (now) => { window.frames_noted.push(now - last); last = now; requestAnimationFrame(step); };
    requestAnimationFrame(step);
})()"""


class Cluster:
    """`instances` processes with a service each; `show` starts a dashboard."""

    def __init__(self, stack: ExitStack, instances: int, folder: Path) -> None:
        guardian = Guardian(forks=True)
        stack.callback(guardian.close)
        self._stage = Stage(guardian, folder)
        stack.callback(self._kill_all)
        self._environment = {
            "ZMQSERVICES_LOCAL_PORT": str(free_port()), "ZMQSERVICES_JOURNAL_FOLDER": str(folder / "journal"),
            "MALLOC_ARENA_MAX": "2",
        }  # fmt: skip
        self.services: list[Process] = []
        for number in range(instances):
            self.services.append(self._start("run", f"bench.ours.neighbours:Service{number % COUNT}"))
            if number % AT_ONCE == 0 or number > instances - AT_ONCE:
                self.services[-1].has_said("Services started", PATIENCE)

    def show(self) -> str:
        """The URL of the page."""
        self.dashboard = self._start("dashboard", "--port", "0")
        self.dashboard.has_said("dashboard: http", PATIENCE)
        return self.dashboard.output().partition("dashboard: ")[2].split()[0]

    def _start(self, command: str, *arguments: str) -> Process:
        return self._stage.start(command, [sys.executable, "-m", "zmqservices", command, *arguments], self._environment)

    def _kill_all(self) -> None:
        """Without a drain: nobody is served any more."""
        for process in self._stage.started:
            process.kill()
        for process in self._stage.started:
            process.end()

    def memory_mb(self) -> float:
        """Memory of all services; of pages that several share, each has its share."""
        total = 0
        for process in self.services:
            with open(f"/proc/{process.pid}/smaps_rollup") as rollup:
                total += next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        return total / 1024


def run(instances: int, seconds: float, kills: int) -> Iterator[dict[str, Any]]:
    """One line with all figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-dashboard-")))
        cluster = Cluster(stack, instances, folder)
        line: dict[str, Any] = {"kind": "dashboard", "instances": instances, "memory_mb": round(cluster.memory_mb())}
        alone = round(sum(_cpu([one.pid for one in cluster.services], seconds)), 4)
        url = cluster.show()
        closed = _cpu([cluster.dashboard.pid], seconds)[0]
        page = stack.enter_context(Page(folder / "browser", url))
        page.until(f"document.querySelectorAll('.mark.up').length === {instances}", PATIENCE)
        opened, *asked = _cpu([cluster.dashboard.pid, *(one.pid for one in cluster.services)], seconds)
        line.update(
            services_alone=alone, services=round(sum(asked), 4), dashboard_closed=closed, dashboard_open=opened,
            **_stream(url, seconds), **_frames(page, seconds),
        )  # fmt: skip
        line["shown_ms"] = [round(_kill(page, process) * 1e3) for process in cluster.services[1 : 1 + kills]]
        yield {**line, "at": round(time.time(), 1), **machine.facts()}


def _cpu(pids: list[int], seconds: float) -> list[float]:
    """Processor seconds per second of each process, once everything has settled."""
    time.sleep(SETTLE)
    before, began = [cpu_of([pid]) for pid in pids], time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return [round((cpu_of([pid]) - used) / passed, 4) for pid, used in zip(pids, before, strict=True)]


def _stream(url: str, seconds: float) -> dict[str, float]:
    """What a page is sent."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    received = pictures = 0
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(f"GET /api/stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            part = connection.recv(1 << 20)
            received += len(part)
            pictures += part.count(b"data: ")
    return {"stream_kb_s": round(received / seconds / 1e3, 1), "pictures_s": round(pictures / seconds, 2)}


def _frames(page: Page, seconds: float) -> dict[str, float]:
    """The frames of the page, and the work of one update of it."""
    # Processor time of the page's thread, and not time on the clock.
    page.ask("Performance.enable", timeDomain="threadTicks")
    browser = children_of(page.pid)
    before, cpu, busy, began = _work(page), cpu_of(browser), busy_seconds()[0], time.monotonic()
    page.run(FRAMES)
    time.sleep(seconds)
    frames = sorted(page.run("window.frames_noted"))
    after, passed = _work(page), time.monotonic() - began
    pictures = max(1.0, after["pictures"] - before["pictures"])
    return {
        "frames": len(frames), "frame_p50_ms": round(summary.percentile(frames, 50), 1),
        "frame_p95_ms": round(summary.percentile(frames, 95), 1), "frame_p99_ms": round(summary.percentile(frames, 99), 1),
        "frame_max_ms": round(frames[-1], 1),
        "script_ms": round((after["ScriptDuration"] - before["ScriptDuration"]) / pictures * 1e3, 1),
        "layout_ms": round(
            sum(after[name] - before[name] for name in ("LayoutDuration", "RecalcStyleDuration")) / pictures * 1e3, 1
        ),
        "browser": round((cpu_of(browser) - cpu) / passed, 2),
        "machine_busy": round((busy_seconds()[0] - busy) / passed, 2), "cores": os.cpu_count() or 0,
    }  # fmt: skip


def _work(page: Page) -> dict[str, float]:
    """Seconds that the page has worked so far, by kind, and the pictures that it has drawn."""
    found = {one["name"]: float(one["value"]) for one in page.ask("Performance.getMetrics")["metrics"]}
    return {**found, "pictures": float(page.run("document.body.dataset.pictures"))}


def _kill(page: Page, process: Process) -> float:
    """Seconds from the end of a process until the page shows it."""
    lost = 1 + page.run("document.querySelectorAll('.mark.lost').length")
    page.note(f"document.querySelectorAll('.mark.lost').length === {lost}")
    at = time.time()
    process.kill()
    return float(page.noted() - at)


#: What a figure is, in the order of the table.
FIGURES = {
    "instances": "processes, a service in each", "memory_mb": "MB of memory of all services",
    "services_alone": "CPU of all services, in cores, without a dashboard", "services": "the same, while a dashboard asks them",
    "dashboard_closed": "CPU of the dashboard, in cores, without a page", "dashboard_open": "the same, with a page",
    "stream_kb_s": "kB per second that a page is sent", "pictures_s": "updates per second",
    "frame_p50_ms": "ms of a frame, median", "frame_p95_ms": "ms of a frame, 95 %", "frame_p99_ms": "ms of a frame, 99 %",
    "frame_max_ms": "ms of the longest frame",
    "script_ms": "ms of CPU for script in one update of the page", "layout_ms": "ms of CPU for layout in one update of the page",
    "browser": "CPU of the browser, in cores; it draws without a graphics card",
    "machine_busy": "cores of the machine that were busy meanwhile", "cores": "cores of the machine",
}  # fmt: skip


def text(lines: list[dict[str, Any]]) -> str:
    """A row for each figure."""
    rows = []
    for line in lines:
        rows += [f"{line[name]:>10}  {what}" for name, what in FIGURES.items()]
        shown = sorted(line["shown_ms"])
        if shown:
            rows.append(f"{summary.median(shown):>10.0f}  ms until the page shows a killed process, median of {len(shown)}")
            rows.append(f"{shown[-1]:>10.0f}  ms, the longest of them")
    return "\n".join(rows)
