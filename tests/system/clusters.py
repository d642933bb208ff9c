"""The cluster of one test: registries, services and clients that no other process of the machine sees."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import discovery
from tests.ports import free_port
from tests.system.processes import PATIENCE, Process, Stage
from zmqservices.standalone.rpc import ClusterRpcProxy

#: What every process of a test cluster runs with, unless the test says otherwise.
QUICK = {"HEARTBEAT": 0.5, "DIRECTORY_TTL": 2}


class Listing:
    """The directory as somebody who makes no calls sees it."""

    def __init__(self, url: str, namespace: str) -> None:
        self.directory = discovery.open_directory(url, namespace=namespace, host=False)
        self._changed = threading.Condition()
        self.directory.subscribe(self._tell)
        self.directory.start()

    def _tell(self, view: Any) -> None:
        with self._changed:
            self._changed.notify_all()

    def records(self, service: str) -> list[Any]:
        return [seen.record for seen in self.directory.service(service)]

    def pids(self, service: str) -> set[int]:
        """The processes whose instance of `service` is listed as UP."""
        return {record.pid for record in self.records(service) if record.state == "UP"}

    def wait_for(self, condition: Callable[[], Any], timeout: float = PATIENCE, what: str = "") -> Any:
        """The first true value of `condition()`, looked at after every change of the view."""
        end = time.monotonic() + timeout
        with self._changed:
            while not (value := condition()):
                # Freshness and suspicion may change without a call back; so look now and then besides.
                left = end - time.monotonic()
                assert left > 0, f"not within {timeout:g} s: {what}; {self.directory.describe()}"
                self._changed.wait(min(left, 0.1))
        return value

    def close(self) -> None:
        self.directory.stop()


def registry(stage: Stage, port: int, ttl: float, *options: str) -> Process:
    """A registry at a port of this machine; returns when it listens."""
    url = f"tcp://127.0.0.1:{port}"
    command = [sys.executable, "-m", "discovery", "serve", "--bind", url, "--ttl", str(ttl), *options]
    process = stage.start(f"registry-{port}", command)
    process.has_said("serving at")
    return process


class Cluster:
    """Registries of its own, a `port` where one is that others use too, or the `url` of another directory.

    Without any of them it is the machine's own directory.
    """

    def __init__(
        self,
        stage: Stage,
        registries: int = 1,
        config: dict[str, Any] | None = None,
        port: int | None = None,
        url: str | None = None,
        registry_options: tuple[str, ...] = (),
    ) -> None:
        self.stage = stage
        self._registry_options = registry_options
        self.namespace = f"test-{uuid.uuid4().hex[:12]}"
        self.local_port = None if registries or port or url else free_port()
        self.ports = [port] if port else [] if url else [free_port() for _ in range(registries)]
        self.url = url or ",".join(f"tcp://127.0.0.1:{port}" for port in self.ports) or "local:"
        self.config = {**QUICK, **(config or {})}
        self._closers: list[Callable[[], Any]] = []
        self.environment = {"ZMQSERVICES_DIRECTORY": self.url, "ZMQSERVICES_NAMESPACE": self.namespace}
        if self.local_port is not None:
            self.environment["ZMQSERVICES_LOCAL_PORT"] = str(self.local_port)
        self.registries = [] if port else [self.registry(number) for number in self.ports]
        self.listing = Listing(self.url if self.local_port is None else f"local:{self.local_port}", self.namespace)
        self._closers.append(self.listing.close)

    def registry(self, port: int) -> Process:
        """A registry at a port of this cluster; returns when it listens."""
        return registry(self.stage, port, self.config["DIRECTORY_TTL"], *self._registry_options)

    def launch(self, target: str, *options: str, **config: Any) -> Process:
        """`zmqservices run`, not waited for. `target` is MODULE[:Class]."""
        if ":" not in target and "." not in target:
            target = f"tests.system.services.{target}"
        settings = {**self.config, **config}
        definitions = [part for key, value in settings.items() for part in ("-d", f"{key}={value}")]
        name = target.rpartition(".")[2].replace(":", "-")
        command = [sys.executable, "-m", "zmqservices", "run", target, *options, *definitions]
        return self.stage.start(name, command, self.environment)

    def run(self, target: str, service: str = "", count: int = 1, **config: Any) -> list[Process]:
        """Processes of a service; returns when all are listed. `service` is the target's name unless it is named."""
        processes = [self.launch(target, **config) for _ in range(count)]
        for process in processes:
            self.wait_listed(service or target, process)
        return processes

    def run_all(self, *targets: str, **config: Any) -> list[Process]:
        """A process of each target, all started at once; returns when all are listed."""
        processes = [self.launch(target, **config) for target in targets]
        for target, process in zip(targets, processes, strict=True):
            self.wait_listed(target, process)
        return processes

    def run_one(self, target: str, service: str = "", **config: Any) -> Process:
        return self.run(target, service, 1, **config)[0]

    def wait_listed(self, service: str, process: Process) -> None:
        """Return once the directory shows the instance of `process`; AssertionError when it ends before."""

        def listed() -> bool:
            assert process.is_running, f"{process.name} ended with {process.popen.returncode} before it was listed"
            return process.pid in self.listing.pids(service)

        self.listing.wait_for(listed, what=f"{service} of pid {process.pid} is listed")

    def only(self, service: str, process: Process) -> str:
        """The URL of a directory in which this instance stands alone."""
        record = next(record for record in self.listing.records(service) if record.pid == process.pid)
        return f"static:{service}={record.endpoints['rpc']}"

    def wait_unlisted(self, service: str, pid: int, timeout: float = PATIENCE) -> None:
        self.listing.wait_for(
            lambda: pid not in self.listing.pids(service), timeout, f"{service} of pid {pid} is listed no more"
        )

    def client_config(self, **config: Any) -> dict[str, Any]:
        return {"DIRECTORY": self.url, "NAMESPACE": self.namespace, **self.config, **config}

    @contextmanager
    def client(self, timeout: float | None = 30, **config: Any) -> Any:
        """A proxy of all services, for plain threads."""
        with ClusterRpcProxy(self.client_config(**config), timeout=timeout) as proxy:
            yield proxy

    def command(self, *arguments: str) -> Process:
        """A `zmqservices` command of this cluster; its exit status and output are to be looked at."""
        command = [sys.executable, "-m", "zmqservices", *arguments]
        return self.stage.start(arguments[0], command, self.environment)

    def close(self) -> None:
        for close in self._closers:
            close()
