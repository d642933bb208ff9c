"""Events: delivered per second and what each delivery costs, beside bare PUB and SUB; and memory while events wait.

Every subscriber gets every event. Those without a promise are dropped when a pipe is full, so the share that arrived is
shown as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine, subjects, summary, table, venvs
from bench.eventing import PATIENCE
from bench.processes import Child, ChildFailed, cpu_of
from bench.schedule import interleaved
from bench.subject import interpreter_flags
from bench.venvs import CACHE
from bench.vitals import rss_of

SUBJECTS = ("pyzmq", "best-effort", "reliable", "nats", "nameko")
#: Subjects whose environment and broker are those of a peer.
PEERS = ("nats", "nameko")
#: What is measured when nobody says what.
USUAL = ("pyzmq", "best-effort", "reliable")
#: So many times fewer events are published where each takes long.
FEWER = {"nameko": 20}


def run(subscribers: list[int], events: int, rounds: int, names: Sequence[str] = USUAL) -> Iterator[dict[str, Any]]:
    """A line for each subject, number of subscribers and round."""
    with ExitStack() as stack:
        brokers: dict[str, Any] = {}
        for number, many, subject in interleaved(rounds, subscribers, names):
            count = max(events // FEWER.get(subject, 1), 1)
            line = {"kind": "events", "subject": subject, "subscribers": many, "events": count, "round": number}
            try:
                if subject in PEERS and subject not in brokers:
                    brokers[subject] = stack.enter_context(_broker(subject))
                yield {**line, **measure(subject, many, count, brokers.get(subject)), **machine.facts()}
            except (ChildFailed, venvs.Unavailable) as exc:
                yield {**line, "failed": str(exc), **machine.facts()}


def _broker(subject: str) -> Any:
    peer = subjects.find(subject)
    venvs.check_programs(peer)
    return peer.broker(CACHE / "run" / f"events-{subject}")


def measure(subject: str, subscribers: int, events: int, broker: Any = None) -> dict[str, float]:
    """One publisher, so many subscribers, so many events."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job = {"events": events, "folder": str(folder), "directory": _registry(stack)}
        if broker is not None:
            job["broker"] = broker.address
        publisher = _child(stack, subject, "publish", job)
        job["address"] = publisher.read_line(PATIENCE)
        children = [_child(stack, subject, "subscribe", {**job, "number": number}) for number in range(subscribers)]
        for child in children:
            child.read_line(PATIENCE)
        pids = [pid for child in (publisher, *children) for pid in child.pids()]
        pids += broker.pids() if broker is not None else []
        cpu, began = cpu_of(pids), time.monotonic()
        publisher.say("go")
        ends = [json.loads(child.read_line(PATIENCE)) for child in children]
        arrived = sum(end["arrived"] for end in ends)
        seconds = max(end["at"] for end in ends) - began
        used = cpu_of(pids) - cpu
    return {
        "delivered_per_s": arrived / seconds,
        "arrived": arrived / (events * subscribers),
        "cpu_us": used / max(arrived, 1) * 1e6,
    }


def waiting(events: int) -> Iterator[dict[str, Any]]:
    """A line: what a publisher holds in memory while so many events wait for a group that is away."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        job = {"events": events, "folder": folder, "directory": _registry(stack)}
        publisher = _child(stack, "reliable", "publish", job)
        publisher.read_line(PATIENCE)
        member = _child(stack, "reliable", "subscribe", {**job, "number": 0})
        member.read_line(PATIENCE)
        member.stop()
        pid = publisher.process.pid
        before, began = rss_of(pid), time.monotonic()
        publisher.say("go")
        publisher.read_line(PATIENCE + events / 1000)
        seconds = time.monotonic() - began
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        line = {"rss_before_mb": before, "rss_after_mb": rss_of(pid), "disk_mb": disk / 2**20, "seconds": seconds}
    yield {"kind": "events-waiting", "events": events, **line, **machine.facts()}


def _registry(stack: ExitStack) -> str:
    from discovery.server.registry_server import RegistryServer

    registry = RegistryServer("tcp://127.0.0.1:0")
    registry.start()
    registry.wait_bound(5)
    stack.callback(registry.stop)
    return registry.url


def _child(stack: ExitStack, subject: str, role: str, job: dict[str, Any]) -> Child:
    python = venvs.interpreter(subjects.find(subject)) if subject in PEERS else sys.executable
    command = [python, *interpreter_flags(), "-m", "bench.eventing", subject, role, json.dumps(job)]
    child = Child(command, CACHE / "run" / f"events-{subject}-{role}.log", is_asked=True)
    stack.callback(child.stop)
    return child


# --- shown ---------------------------------------------------------------------------------------------------------------

HEADINGS = ["subscribers", "subject", "delivered/s", "arrived", "CPU us per delivery"]


def rows(lines: list[dict[str, Any]]) -> list[list[str]]:
    """Medians of the rounds."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "events" and "failed" not in line:
            found.setdefault((line["subscribers"], line["subject"]), []).append(line)
    return [
        [
            str(many),
            subject,
            table.number(summary.median(line["delivered_per_s"] for line in group)),
            table.percent(summary.median(line["arrived"] for line in group)),
            table.number(summary.median(line["cpu_us"] for line in group), 1),
        ]
        for (many, subject), group in sorted(found.items(), key=lambda item: (item[0][0], SUBJECTS.index(item[0][1])))
    ]


WAITING_HEADINGS = ["events that wait", "MiB before", "MiB after", "MiB on disk", "dispatched in s"]


def waiting_rows(lines: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            table.number(line["events"]),
            *(table.number(line[name]) for name in ("rss_before_mb", "rss_after_mb", "disk_mb")),
            table.number(line["seconds"], 1),
        ]
        for line in lines
        if line["kind"] == "events-waiting" and "failed" not in line
    ]


def text(lines: list[dict[str, Any]]) -> str:
    parts = [table.grid(HEADINGS, rows(lines))] if rows(lines) else []
    if waiting_rows(lines):
        parts.append(table.grid(WAITING_HEADINGS, waiting_rows(lines)))
    parts += [f"{line['subject']}: NOT MEASURED: {line['failed']}" for line in lines if "failed" in line]
    return "\n\n".join([*parts, *table.where(lines)])
