"""Events: delivered per second and what each delivery costs, beside bare PUB and SUB; and memory while events wait.

Every subscriber gets every event. Those without a promise are dropped when a pipe is full, so the share that arrived is
shown as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine, summary, table
from bench.processes import Child, ChildFailed, cpu_of
from bench.schedule import interleaved
from bench.venvs import CACHE
from bench.vitals import rss_of

SUBJECTS = ("pyzmq", "best-effort", "reliable")
#: Greenlets that dispatch side by side: what shares a commit.
DISPATCHERS = 50
#: Best-effort events between two turns for the sockets, where nothing else makes the publisher pause.
BURST = 20
#: Seconds that all of it may take.
PATIENCE = 120.0
#: Seconds without an event after which those without a promise are over.
QUIET = 0.5


def run(subscribers: list[int], events: int, rounds: int) -> Iterator[dict[str, Any]]:
    """A line for each subject, number of subscribers and round."""
    for number, many, subject in interleaved(rounds, subscribers, SUBJECTS):
        line = {"kind": "events", "subject": subject, "subscribers": many, "events": events, "round": number}
        try:
            yield {**line, **measure(subject, many, events), **machine.facts()}
        except ChildFailed as exc:
            yield {**line, "failed": str(exc), **machine.facts()}


def measure(subject: str, subscribers: int, events: int) -> dict[str, float]:
    """One publisher, so many subscribers, so many events."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job = {"subject": subject, "events": events, "folder": str(folder), "directory": _registry(stack)}
        publisher = _child(stack, "publish", job)
        job["address"] = publisher.read_line(PATIENCE)
        children = [_child(stack, "subscribe", {**job, "number": number}) for number in range(subscribers)]
        for child in children:
            child.read_line(PATIENCE)
        pids = [pid for child in (publisher, *children) for pid in child.pids()]
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
        job = {"subject": "reliable", "events": events, "folder": folder, "directory": _registry(stack)}
        publisher = _child(stack, "publish", job)
        publisher.read_line(PATIENCE)
        member = _child(stack, "subscribe", {**job, "number": 0})
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
    from discovery.server import RegistryServer

    registry = RegistryServer("tcp://127.0.0.1:0")
    registry.start()
    registry.wait_bound(5)
    stack.callback(registry.stop)
    return registry.url


def _child(stack: ExitStack, role: str, job: dict[str, Any]) -> Child:
    command = [sys.executable, "-m", "bench.events", role, json.dumps(job)]
    child = Child(command, CACHE / "run" / f"events-{role}.log", is_asked=True)
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


def text(lines: list[dict[str, Any]]) -> str:
    parts = [table.grid(HEADINGS, rows(lines))] if rows(lines) else []
    parts += [
        f"{line['events']:,} events wait: the publisher's memory went from {line['rss_before_mb']:.0f} to "
        f"{line['rss_after_mb']:.0f} MiB, {line['disk_mb']:.0f} MiB on disk; dispatched in {line['seconds']:.0f} s"
        for line in lines
        if line["kind"] == "events-waiting"
    ]
    parts += [f"{line['subject']}: NOT MEASURED: {line['failed']}" for line in lines if "failed" in line]
    return "\n\n".join([*parts, *table.where(lines)])


# --- in the children -------------------------------------------------------------------------------------------------------


def _config(job: dict[str, Any]) -> dict[str, Any]:
    return {"DIRECTORY": job["directory"], "NAMESPACE": "bench", "JOURNAL_FOLDER": job["folder"], "DIRECTORY_CACHE": "none"}


def publish(job: dict[str, Any]) -> None:
    """Say where, wait for the word, dispatch, and say that it is done."""
    if job["subject"] == "pyzmq":
        _publish_bare(job)
        return
    import gevent

    from zmqservices.containers import ServiceContainer
    from zmqservices.events import EventDispatcher

    class Publisher:
        name = "bench"
        dispatch = EventDispatcher(reliable=job["subject"] == "reliable")

    container = ServiceContainer(Publisher, _config(job))
    container.start()
    [provider] = container.dependencies
    print("here", flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.readline)
    headers = {"call_id_stack": ["bench.publish.1"]}
    numbers = iter(range(job["events"]))

    def work() -> None:
        for number in numbers:
            provider._source.dispatch("thing.happened", {"number": number}, headers, None, None, provider.is_reliable)
            if not provider.is_reliable and number % BURST == 0:
                gevent.sleep(0)

    gevent.joinall([gevent.spawn(work) for _ in range(DISPATCHERS)], raise_error=True)
    print("done", flush=True)
    gevent.sleep(PATIENCE)


def _publish_bare(job: dict[str, Any]) -> None:
    import msgpack
    import zmq

    socket = zmq.Context().socket(zmq.PUB)
    socket.set(zmq.SNDHWM, 10_000)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    print(f"tcp://127.0.0.1:{port}", flush=True)
    sys.stdin.readline()
    for number in range(job["events"]):
        socket.send(b"thing.happened\0" + msgpack.packb({"number": number}))
        if number % BURST == 0:
            time.sleep(0)
    print("done", flush=True)
    time.sleep(PATIENCE)


def subscribe(job: dict[str, Any]) -> None:
    """Say that one listens, count, and say what came and when the last of it did."""
    if job["subject"] == "pyzmq":
        _subscribe_bare(job)
        return
    import gevent

    from zmqservices.containers import ServiceContainer
    from zmqservices.events import BROADCAST, SERVICE_POOL, event_handler

    reliable, seen = job["subject"] == "reliable", [0, 0.0]

    class Subscriber:
        name = f"subscriber-{job['number']}"

        @event_handler("bench", "thing.happened", SERVICE_POOL if reliable else BROADCAST, reliable_delivery=reliable)
        def handle(self, payload: Any) -> None:
            seen[0] += 1
            seen[1] = time.monotonic()

    ServiceContainer(Subscriber, _config(job)).start()
    print("here", flush=True)
    while seen[0] < job["events"] and (reliable or not seen[0] or time.monotonic() - seen[1] < QUIET):
        gevent.sleep(0.01)
    print(json.dumps({"arrived": seen[0], "at": seen[1]}), flush=True)
    gevent.sleep(PATIENCE)


def _subscribe_bare(job: dict[str, Any]) -> None:
    import msgpack
    import zmq
    from zmq.utils.monitor import recv_monitor_message

    socket = zmq.Context().socket(zmq.SUB)
    socket.set(zmq.RCVHWM, 10_000)
    socket.subscribe(b"thing.happened\0")
    monitor = socket.get_monitor_socket()
    socket.connect(job["address"])
    while recv_monitor_message(monitor)["event"] != zmq.EVENT_HANDSHAKE_SUCCEEDED:
        pass
    time.sleep(QUIET)  # PUB does not tell whom it has heard of; that is the point of ours.
    print("here", flush=True)
    arrived, last = 0, 0.0
    while arrived < job["events"] and (not arrived or socket.poll(QUIET * 1000)):
        msgpack.unpackb(socket.recv().partition(b"\0")[2])
        arrived, last = arrived + 1, time.monotonic()
    print(json.dumps({"arrived": arrived, "at": last}), flush=True)
    time.sleep(PATIENCE)


if __name__ == "__main__":

    {"publish": publish, "subscribe": subscribe}[sys.argv[1]](json.loads(sys.argv[2]))
