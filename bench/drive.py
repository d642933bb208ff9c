"""The client process of a subject: connects, warms up, says "ready", waits for "go", and prints how long its calls took.

    python -m bench.drive SUBJECT HOST:PORT '{"in_flight": 64, "seconds": 1.0, "payload": 0, "warm": 0.1}'

With `"first": true` it says "ready" once everything is imported, reads "go" and waits for the first answer of a server
that is only just starting.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import importlib.metadata
import json
import os
import re
import socket
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

from bench import styles, subjects
from bench.processes import zmq_cpu_of
from bench.styles import Taken, Work
from bench.subject import Subject, parse

#: Seconds in which a server must give the first answer.
PATIENCE = 30.0
#: Seconds between two tries to reach a server that is starting.
RETRY = 0.002


class Timing:
    """Wall clock and processor time, at the beginning and the end of a run."""

    def __init__(self) -> None:
        self.cpu = time.process_time()
        self.zmq_cpu = zmq_cpu_of(["self"])

    def result(self, taken: Taken) -> dict[str, Any]:
        """The line of JSON: latencies as packed 32-bit floats, in microseconds."""
        cpu = time.process_time() - self.cpu
        zmq_cpu = zmq_cpu_of(["self"]) - self.zmq_cpu
        packed = array("f", [latency * 1e6 for latency in taken.latencies])
        return {
            "calls": len(packed),
            "seconds": taken.seconds,
            "cpu": cpu,
            "zmq_cpu": zmq_cpu,
            "latencies": base64.b64encode(packed.tobytes()).decode(),
        }


def tell(word: str) -> None:
    print(word, flush=True)


def wait_for_go() -> None:
    """Say "ready" and wait for "go", so that all clients of a measurement start at once."""
    if sys.stdin.readline().strip() != "go":
        os._exit(3)


def knock(address: str, until: float) -> None:
    """Return once a server listens at the address."""
    while True:
        try:
            with socket.create_connection(parse(address), timeout=1):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(RETRY)


def persistently(action: Callable[[], Any]) -> Any:
    """The result of `action`, which is tried again until the server answers."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(RETRY)


def first_call(style: str, connection: Any) -> None:
    if style == "pipeline":
        connection.send(0, "add", (1, 2))
        value = connection.receive()[1]
    else:
        value = connection.add(1, 2)
    if value != 3:
        raise styles.WrongAnswer(f"add(1, 2) was answered with {value!r}")


def run_blocking(subject: Subject, address: str, job: dict[str, Any]) -> dict[str, Any]:
    """The styles of STYLES."""
    if subject.style == "greenlets":
        import gevent

        gevent.get_hub()

    def open_one() -> Any:
        connection = subject.connect(address)
        first_call(subject.style, connection)
        return connection

    if job.get("first"):
        tell("ready")
        wait_for_go()
        knock(address, time.monotonic() + PATIENCE)
        persistently(open_one)
        return {"first": time.monotonic()}
    shared = persistently(open_one)
    connect = (lambda: shared) if subject.is_shared else (lambda: subject.connect(address))
    run = styles.STYLES[subject.style]
    work = Work(job["in_flight"], job["seconds"], job["payload"])
    run(connect, Work(job["in_flight"], job["warm"], job["payload"]))
    tell("ready")
    wait_for_go()
    timing = Timing()
    return timing.result(run(connect, work))


async def run_asyncio(subject: Subject, address: str, job: dict[str, Any]) -> dict[str, Any]:
    """The same for coroutines."""
    first = job.get("first")
    if first:
        tell("ready")
        wait_for_go()
    knock(address, time.monotonic() + PATIENCE)
    until = time.monotonic() + PATIENCE
    connection = None
    while True:
        try:
            connection = connection or await subject.connect(address)
            if await connection.add(1, 2) == 3:
                break
        except Exception:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(RETRY)
    if first:
        return {"first": time.monotonic()}
    await styles.tasks(connection, Work(job["in_flight"], job["warm"], job["payload"]))
    tell("ready")
    wait_for_go()
    timing = Timing()
    return timing.result(await styles.tasks(connection, Work(job["in_flight"], job["seconds"], job["payload"])))


def versions(subject: Subject) -> dict[str, str]:
    """The versions of the packages that the subject installed."""
    names = [re.split(r"[\[<>=!~ ]", requirement)[0] for requirement in subject.requirements]
    return {name: importlib.metadata.version(name) for name in names}


def main() -> None:
    subject, address, job = subjects.find(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    for module in subject.modules:
        importlib.import_module(module)
    if subject.style == "asyncio":
        result = asyncio.run(run_asyncio(subject, address, job))
    else:
        result = run_blocking(subject, address, job)
    result["versions"] = versions(subject)
    result["client_python"] = "{}.{}.{}".format(*sys.version_info[:3])
    tell(json.dumps(result))
    # Some libraries wait for their own threads at the end; nobody waits for them here.
    os._exit(0)


if __name__ == "__main__":
    main()
