"""How one client process has many calls in flight: pipelined, by greenlets, by threads or by asyncio tasks.

Each style runs calls for a span of time and takes down how long each took. What a connection must offer:

    pipeline    send(number, method, args); receive() -> (number, value); answers may come in any order
    greenlets   add(a, b), echo(blob), which let other greenlets run while they wait
    threads     the same, blocking
    asyncio     the same, as coroutines

Rule 1: nothing but the standard library at the top; gevent is there only where a subject brings it.
Rule 2: every answer is checked.
"""

from __future__ import annotations

import functools
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

#: Opens a connection: called once, or once for each call in flight.
Connect = Callable[[], Any]


class WrongAnswer(Exception):
    """The server gave a wrong answer."""


@dataclass
class Taken:
    """The durations of a run: `seconds` in all, and the latency of each call in seconds."""

    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class Work:
    """Please keep `in_flight` calls open for `seconds`: echo() of `payload` bytes, or add() where that is 0."""

    in_flight: int = 1
    seconds: float = 1.0
    payload: int = 0

    @functools.cached_property
    def blob(self) -> bytes:
        """What is echoed; random, so that nothing can compress it. Made before the time runs."""
        return os.urandom(self.payload)


def blocking_loop(connection: Any, work: Work, until: float, latencies: array[float]) -> None:
    """Make one call after the other until the time is over, in one greenlet or thread."""
    now = perf_counter()
    if work.payload:
        blob = work.blob
        while now < until:
            if len(connection.echo(blob)) != work.payload:
                raise WrongAnswer(f"echo() of {work.payload} bytes came back with another length")
            before, now = now, perf_counter()
            latencies.append(now - before)
        return
    number = 0
    while now < until:
        if connection.add(number, 1) != number + 1:
            raise WrongAnswer(f"add({number}, 1) was answered wrongly")
        number += 1
        before, now = now, perf_counter()
        latencies.append(now - before)


def pipeline(connect: Connect, work: Work) -> Taken:
    """A single thread that sends ahead and collects answers."""
    connection = connect()
    taken = Taken()
    method, blob = ("echo", work.blob) if work.payload else ("add", b"")
    started: list[float] = []
    send, receive, latencies = connection.send, connection.receive, taken.latencies
    start = now = perf_counter()
    until = start + work.seconds
    for number in range(work.in_flight):
        started.append(perf_counter())
        send(number, method, (blob,) if blob else (number, 1))
    waiting = work.in_flight
    while waiting:
        number, value = receive()
        if (len(value) != work.payload) if blob else (value != number + 1):
            raise WrongAnswer(f"call {number} of {method}() was answered wrongly")
        now = perf_counter()
        latencies.append(now - started[number])
        if now < until:
            number = len(started)
            started.append(now)
            send(number, method, (blob,) if blob else (number, 1))
        else:
            waiting -= 1
    taken.seconds = perf_counter() - start
    return taken


def greenlets(connect: Connect, work: Work) -> Taken:
    """A greenlet for each call in flight."""
    import gevent

    taken = Taken()
    _ = work.blob
    connections = [connect() for _ in range(work.in_flight)]
    start = perf_counter()
    workers = [
        gevent.spawn(blocking_loop, connection, work, start + work.seconds, taken.latencies)
        for connection in connections
    ]
    for worker in workers:
        worker.get()
    taken.seconds = perf_counter() - start
    return taken


def threads(connect: Connect, work: Work) -> Taken:
    """A thread for each call in flight; the plain loop itself where there is only one."""
    from concurrent.futures import ThreadPoolExecutor

    taken = Taken()
    _ = work.blob
    connections = [connect() for _ in range(work.in_flight)]
    parts = [array("d") for _ in connections]
    if work.in_flight == 1:
        start = perf_counter()
        blocking_loop(connections[0], work, start + work.seconds, parts[0])
    else:
        with ThreadPoolExecutor(work.in_flight) as pool:
            start = perf_counter()
            until = start + work.seconds
            running = [
                pool.submit(blocking_loop, connection, work, until, part)
                for connection, part in zip(connections, parts, strict=True)
            ]
            for one in running:
                one.result()
    taken.seconds = perf_counter() - start
    for part in parts:
        taken.latencies.extend(part)
    return taken


async def _coroutine_loop(connection: Any, work: Work, until: float, latencies: array[float]) -> None:
    blob = work.blob
    number = 0
    now = perf_counter()
    while now < until:
        if blob:
            if len(await connection.echo(blob)) != work.payload:
                raise WrongAnswer(f"echo() of {work.payload} bytes came back with another length")
        elif await connection.add(number, 1) != number + 1:
            raise WrongAnswer(f"add({number}, 1) was answered wrongly")
        number += 1
        before, now = now, perf_counter()
        latencies.append(now - before)


async def tasks(connection: Any, work: Work) -> Taken:
    """An asyncio task for each call in flight, over one connection."""
    import asyncio

    taken = Taken()
    _ = work.blob
    start = perf_counter()
    until = start + work.seconds
    await asyncio.gather(
        *(_coroutine_loop(connection, work, until, taken.latencies) for _ in range(work.in_flight))
    )
    taken.seconds = perf_counter() - start
    return taken


#: The styles whose connections block; "asyncio" is run by `tasks` inside a loop.
STYLES: dict[str, Callable[[Connect, Work], Taken]] = {
    "pipeline": pipeline,
    "greenlets": greenlets,
    "threads": threads,
}
