"""The services that the bench calls, with nothing in them that only a benchmark would have but `spin` and `vitals`."""

from __future__ import annotations

from time import perf_counter, thread_time
from typing import Any

import gevent

from zmqservices.extensions import DependencyProvider
from zmqservices.probes import Probe
from zmqservices.rpc import rpc


class Adder:
    """The work itself."""

    name = "adder"

    @rpc
    def add(self, a: int, b: int) -> int:
        return a + b

    @rpc
    def echo(self, blob: bytes) -> bytes:
        return blob

    @rpc
    def spin(self, seconds: float, parts: int = 1) -> float:
        """Keep the processor busy for `seconds`: work of a known price, for the open loop. Others run between two parts."""
        for part in range(parts):
            if part:
                gevent.sleep(0)
            # CPU time: what other processes take of the processor is no work of this call.
            start = thread_time()
            while thread_time() - start < seconds / parts:
                pass
        return seconds

    @rpc
    def vitals(self) -> dict[str, int]:
        """What this process holds, for the soak."""
        from bench.vitals import vitals

        return vitals()


class Dependency(DependencyProvider):
    """Has all the hooks of a worker's life, so that all of them are called."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value
        self.seen = 0

    def get_dependency(self, worker_ctx: Any) -> int:
        return self.value

    def worker_setup(self, worker_ctx: Any) -> None:
        self.seen += 1

    def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
        self.seen += 1

    def worker_teardown(self, worker_ctx: Any) -> None:
        self.seen += 1


class DependentAdder(Adder):
    """The same with three injected dependencies."""

    name = "dependent-adder"

    first = Dependency(1)
    second = Dependency(2)
    third = Dependency(3)


class Stopwatch(Probe):
    """What a metric does: counts calls and adds up how long they take."""

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0

    def worker_started(self, worker_ctx: Any) -> None:
        worker_ctx.data["began"] = perf_counter()

    def worker_ended(self, worker_ctx: Any, result: Any, exc_info: Any) -> None:
        self.calls += 1
        self.seconds += perf_counter() - worker_ctx.data["began"]


class Measured(DependencyProvider):
    """Puts a probe on its container."""

    def setup(self) -> None:
        self.container.attach(Stopwatch())

    def get_dependency(self, worker_ctx: Any) -> None:
        return None


class ProbedAdder(Adder):
    """The same with a probe that measures each call."""

    name = "probed-adder"

    measured = Measured()
