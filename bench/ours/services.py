"""zmqservices as a user runs it: `zmqservices run`, a registry, and the clients that the documentation shows."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.subject import Broker, Subject
from bench.venvs import CACHE


class OnTheHub(Subject):
    """Greenlets call through one client, as workers of a service do."""

    name = "zmqservices"
    about = "through the whole framework, client in greenlets"
    style = "greenlets"
    modules: tuple[str, ...] = ("gevent", "zmqservices.standalone.rpc")
    scales = True
    #: The service that is called, and its class; nothing else runs in the process.
    service = "adder"
    cls = "bench.ours.service:Adder"
    #: Seconds per call; None leaves it to the default.
    timeout: float | None = None

    def broker(self, folder: Path) -> AbstractContextManager[Broker] | None:
        from bench.ours.registry import Registry

        return Registry(folder)

    def command(self, address: str, processes: int) -> list[str]:
        several = ["--processes", str(processes)] if processes > 1 else []
        return ["-m", "zmqservices", "run", self.cls, "--directory", f"tcp://{address}", *several]

    def said_when_up(self) -> str:
        return "Services started:"

    def connect(self, address: str) -> Any:
        return self._cluster(address)[self.service]

    def _cluster(self, address: str) -> Any:
        from zmqservices.standalone.rpc import ClusterRpcProxy

        # A server that is only just starting may be called already.
        self.client = ClusterRpcProxy({"DIRECTORY": f"tcp://{address}", "rpc_wait_for_service": 30}, timeout=self.timeout)
        return self.client.start()


class WithDependencies(OnTheHub):
    """Three dependencies, with all hooks, are injected into every call's worker."""

    name = "zmqservices-3deps"
    about = "the same with three injected dependencies"
    service = "dependent-adder"
    cls = "bench.ours.service:DependentAdder"


class WithAProbe(OnTheHub):
    """A probe counts and times every call, as a metric would."""

    name = "zmqservices-probe"
    about = "the same with a probe that times each call"
    service = "probed-adder"
    cls = "bench.ours.service:ProbedAdder"


class WithManyWorkers(OnTheHub):
    """A hundred calls may run at once."""

    name = "zmqservices-100"
    about = "the same with max_workers: 100"
    workers = "100"

    def command(self, address: str, processes: int) -> list[str]:
        return [*super().command(address, processes), "-d", f"max_workers={self.workers}"]


class WithALimitOfItsOwn(WithManyWorkers):
    """The service finds out how many calls it can run at once."""

    name = "zmqservices-auto"
    about = "the same with max_workers: auto"
    workers = "auto"


class WithEvents(OnTheHub):
    """The service dispatches and handles events besides; no call does."""

    name = "zmqservices-events"
    about = "the same in a service that has events, too"
    service = "eventful-adder"
    cls = "bench.ours.eventful:EventfulAdder"

    def command(self, address: str, processes: int) -> list[str]:
        return [*super().command(address, processes), "-d", f"JOURNAL_FOLDER={CACHE / 'run' / 'journals'}"]


class FromAThread(OnTheHub):
    """A plain thread with no hub; many in flight by `call_async`."""

    name = "zmqservices-thread"
    about = "through the whole framework, client in a plain thread"
    style = "pipeline"
    modules = ("zmqservices.standalone.rpc",)

    def connect(self, address: str) -> Any:
        return Pipeline(self._cluster(address)[self.service])


class FromManyThreads(OnTheHub):
    """A thread for each call in flight, as in a web worker."""

    name = "zmqservices-threads"
    about = "through the whole framework, a thread for each call in flight"
    style = "threads"
    modules = ("zmqservices.standalone.rpc",)


class Pipeline:
    """Calls sent ahead; their results are asked for in the same order."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._open: deque[tuple[int, Any]] = deque()

    def send(self, number: int, method: str, args: Any) -> None:
        service = self._service
        call = (service.add if method == "add" else service.echo).call_async(*args)
        self._open.append((number, call))

    def receive(self) -> Any:
        number, call = self._open.popleft()
        return number, call.result()
