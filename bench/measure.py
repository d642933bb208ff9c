"""One measurement: client processes load a standing server for a while, and what that cost is taken down."""

from __future__ import annotations

import base64
import json
import math
import time
from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import summary
from bench.cases import Case
from bench.processes import Child, ChildFailed, busy_seconds, cpu_of, zmq_cpu_of
from bench.stage import GroupState, Place, Stage
from bench.subject import interpreter_flags
from bench.vitals import rss_of

#: Seconds beyond its own time that a client may take: starting, connecting, warming up, finishing slow calls.
PATIENCE = 90.0
#: Of a measurement's seconds, how many are run before it so that caches are warm.
WARM = 0.15


def client(place: Place, job: dict[str, Any], folder: Path) -> Child:
    """A client process of the subject, which will say "ready"."""
    command = [place.python, *interpreter_flags(), "-m", "bench.drive", place.subject.name, place.address]
    return Child([*command, json.dumps(job)], folder / "client.log", is_asked=True)


def ready(asker: Child, standing: GroupState) -> None:
    """Return once the client has had its first answers. Raises ChildFailed: the server's, where it is the server's fault."""
    try:
        asker.read_line(PATIENCE)
    except ChildFailed:
        if standing.server.process.poll() is not None:
            raise standing.server.failed("ended") from None
        raise


def load(standing: GroupState, case: Case, seconds: float, folder: Path) -> dict[str, Any]:
    """Load `standing` as `case` says. Raises ChildFailed when a client fails."""
    job = {
        "in_flight": case.in_flight,
        "payload": case.payload,
        "seconds": seconds,
        "warm": max(seconds * WARM, 0.02),
    }
    with ExitStack() as stack:
        clients = []
        for _ in range(case.clients):
            clients.append(client(standing, job, folder))
            stack.callback(clients[-1].stop)
        for each in clients:
            ready(each, standing)
        servers, brokers = standing.server_pids(), standing.broker_pids()
        before = cpu_of(servers), cpu_of(brokers), busy_seconds(), time.monotonic(), zmq_cpu_of(servers)
        for each in clients:
            each.say("go")
        results = [json.loads(each.read_line(seconds + PATIENCE)) for each in clients]
        after = cpu_of(servers), cpu_of(brokers), busy_seconds(), time.monotonic(), zmq_cpu_of(servers)
    return line(results, before, after, servers)


def line(results: list[dict[str, Any]], before: Any, after: Any, servers: list[int]) -> dict[str, Any]:
    """The figures of one measurement.

    `before` and `after`: CPU of servers and of brokers, busy seconds, the time, CPU of ZeroMQ's threads in the servers.
    """
    calls = sum(result["calls"] for result in results)
    seconds = max(result["seconds"] for result in results)
    server, broker = after[0] - before[0], after[1] - before[1]
    clients = sum(result["cpu"] for result in results)
    samples = array("f")
    for result in results:
        samples.frombytes(base64.b64decode(result.pop("latencies")))
    passed = after[3] - before[3]
    elsewhere = after[2][0] - before[2][0] - server - broker - clients

    def per_call(cpu: float) -> float:
        return round(cpu / calls * 1e6, 3) if calls else math.nan

    return {
        "calls": calls,
        "seconds": round(seconds, 6),
        "rate": round(calls / seconds, 2),
        "cpu_us": per_call(server + broker + clients),
        "server_cpu_us": per_call(server),
        "client_cpu_us": per_call(clients),
        "broker_cpu_us": per_call(broker),
        "zmq_cpu_us": per_call(after[4] - before[4] + sum(result["zmq_cpu"] for result in results)),
        **summary.latencies(samples),
        "server_rss_mb": round(sum(map(rss_of, servers)), 1),
        # Processors that others kept busy, and that the host took away, on average: what the figure must be judged by.
        "others_cores": round(max(elsewhere, 0.0) / passed, 2),
        "stolen_cores": round((after[2][1] - before[2][1]) / passed, 2),
        "versions": results[0]["versions"],
        "subject_python": results[0]["client_python"],
    }


def start(stage: Stage, name: str, case: Case, seconds: float, folder: Path) -> dict[str, Any]:
    """Start a fresh server, time its first answer, and take its memory before and after a load.

    The client has imported everything before the server is started. Raises Unavailable and ChildFailed.
    """
    place = stage.place(name, "fresh")
    with ExitStack() as stack:
        asker = client(place, {"first": True}, folder)
        stack.callback(asker.stop)
        asker.read_line(PATIENCE)
        begun = time.monotonic()
        standing = place.start()
        stack.callback(standing.server.stop)
        asker.say("go")
        answered = json.loads(asker.read_line(PATIENCE))["first"]
        idle = sum(map(rss_of, standing.server_pids()))
        line = load(standing, case, seconds, folder)
        line.update(first_answer_s=round(answered - begun, 4), idle_rss_mb=round(idle, 1))
        line["broker_rss_mb"] = round(sum(map(rss_of, standing.broker_pids())), 1)
    return line
