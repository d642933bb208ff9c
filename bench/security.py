"""What a closed cluster costs: calls with SECURITY beside calls without, and the first call of a new client.

Client and service are two processes; CPU time is that of both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from discovery.security.authority import Authority
from discovery.security.keys import Keys
from discovery.server.registry_server import RegistryServer
from zmqservices.standalone.rpc import ClusterRpcProxy

MEBIBYTE = bytes(1024 * 1024)
SUBJECTS = ("open", "SECURITY")
#: The service, in a process of its own.
SERVICE = """
from zmqservices.rpc import rpc


class Echo:
    name = "echo"

    @rpc
    def echo(self, value):
        return value
"""


class Side:
    """A registry, a service and a client, closed or not."""

    def __init__(self, stack: ExitStack, folder: Path, is_closed: bool) -> None:
        keys = None
        self._of_client: dict[str, Any] = {"rpc_timeout": 60.0, "DIRECTORY_CACHE": "none"}
        of_service: list[str] = []
        if is_closed:
            authority = Authority.create(folder / "cluster")
            keys = Keys.read(folder / "cluster" / "registry")
            server = authority.issue("echo", {"serves": ("echo",), "registers": ("echo",)})
            self._of_client["SECURITY"] = str(authority.issue("client", {"calls": ("echo",)}))
            of_service = ["-d", f"SECURITY={server}"]
        registry = RegistryServer("tcp://127.0.0.1:0", keys=keys)
        registry.start()
        stack.callback(registry.stop)
        registry.wait_bound(5)
        self._of_client["DIRECTORY"] = registry.url
        command = [sys.executable, "-m", "zmqservices", "run", "bench_echo", "--directory", registry.url, *of_service]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=folder)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        self._service = psutil.Process(process.pid)
        self.client = stack.enter_context(ClusterRpcProxy({**self._of_client, "rpc_wait_for_service": 20.0}))
        assert self.client.echo.echo(1) == 1

    def cpu(self) -> float:
        """Seconds that both processes have used so far."""
        spent = self._service.cpu_times()
        return time.process_time() + float(spent.user + spent.system)

    def first_call(self) -> None:
        """The first call of a new client."""
        with ClusterRpcProxy(self._of_client) as client:
            client.echo.echo(1)


def run(count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """One line for each measurement; open and closed take turns."""
    cases: dict[str, Callable[[Side], int]] = {
        "1 in flight": lambda side: _calls(side, 1, 1, seconds),
        "64 in flight": lambda side: _calls(side, 64, 1, seconds),
        "1 MiB, 1 in flight": lambda side: _calls(side, 1, MEBIBYTE, seconds),
        "first call of a new client": lambda side: _first_calls(side, seconds),
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "bench_echo.py").write_text(SERVICE)
        sides = {name: Side(stack, folder, name != "open") for name in SUBJECTS}
        for _ in range(count):
            for case, measure in cases.items():
                for subject, side in sides.items():
                    began, before = time.monotonic(), side.cpu()
                    calls = measure(side)
                    took, spent = time.monotonic() - began, side.cpu() - before
                    yield {"case": case, "subject": subject, "wall_us": took / calls * 1e6, "cpu_us": spent / calls * 1e6}


def _calls(side: Side, window: int, value: Any, seconds: float) -> int:
    call, waiting, calls = side.client.echo.echo, deque[Any](), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(window):
            if len(waiting) >= window:
                waiting.popleft().result()
            waiting.append(call.call_async(value))
            calls += 1
    while waiting:
        waiting.popleft().result()
    return calls


def _first_calls(side: Side, seconds: float) -> int:
    calls, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        side.first_call()
        calls += 1
    return calls


def text(lines: list[dict[str, Any]]) -> str:
    """A table: the median of each subject, and SECURITY beside open, as the median of the rounds' ratios."""
    rows = []
    for case in dict.fromkeys(line["case"] for line in lines):
        of_case = {name: [line for line in lines if (line["case"], line["subject"]) == (case, name)] for name in SUBJECTS}
        cells = []
        for measure in ("wall_us", "cpu_us"):
            values = {name: [float(line[measure]) for line in found] for name, found in of_case.items()}
            free, closed = (values[name] for name in SUBJECTS)
            ratio = median(one / other for one, other in zip(closed, free, strict=False)) if free and closed else float("nan")
            cells += [f"{median(found):>11.1f}" if found else f"{'':>11}" for found in (free, closed)] + [f"{ratio:>7.2f}"]
        rows.append(f"{case:<32}" + "".join(cells))
    columns = "".join(f"{what:>11}{'SECURITY':>11}{'ratio':>7}" for what in ("open", "open: CPU"))
    head = f"{'us per call, ' + time.strftime('%d %B %Y'):<32}{columns}"
    return "\n".join([head, *rows])
