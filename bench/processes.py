"""Processes of a run: started, read from, timed, and ended again by their ids. Linux only: it reads /proc.

A child is a session of its own, and gets SIGTERM when the bench dies, however that happens.
"""

from __future__ import annotations

import ctypes
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.subject import parse

#: Seconds that a child gets to end in good order.
GRACE = 10.0
#: Below those that systems give to outgoing connections (from 32,768 on Linux): a thousand ports are chosen first and
#: bound later.
PORTS = (15_000, 32_000)
#: The tree's root, from where every child runs.
HOME = Path(__file__).resolve().parent.parent

_PR_SET_PDEATHSIG = 1


class ChildFailed(Exception):
    """A process ended, or said nothing in time; the text carries the end of its log."""


def free_port() -> int:
    """A port of loopback that nobody listens on just now, and that no outgoing connection is given meanwhile."""
    for _ in range(1000):
        port = random.randint(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port of {PORTS} is free on 127.0.0.1")


def cpu_of(pids: Sequence[int]) -> float:
    """User and system seconds used so far by these processes, exact to a microsecond or so; gone ones count 0."""
    used = 0.0
    for pid in pids:
        with suppress(OSError):
            # The kernel's name for the CPU clock of another process; see clock_getcpuclockid(3).
            used += time.clock_gettime((~pid << 3) | 2)
    return used


def zmq_cpu_of(pids: Sequence[int | str]) -> float:
    """Seconds used so far by ZeroMQ's own threads of these processes ("self" for this one); 0 where there are none."""
    used = 0
    for pid in pids:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError), open(f"/proc/{pid}/task/{task}/comm") as comm:
                    if comm.read().startswith("ZMQ"):
                        with open(f"/proc/{pid}/task/{task}/schedstat") as stat:
                            used += int(stat.read().split()[0])
    return used / 1e9


def children_of(pid: int) -> list[int]:
    """The process and all that it started, directly or not."""
    found = [pid]
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                for child in children.read().split():
                    found += children_of(int(child))
    return found


def busy_seconds() -> tuple[float, float]:
    """Seconds that all processors of the machine were busy, and stolen by its host, since it started."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _wait, irq, soft, steal = (int(n) for n in stat.readline().split()[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + soft) / tick, steal / tick


def usual_environment() -> dict[str, str]:
    """This process's variables, without the one that keeps modules from being compiled once for all: nobody runs a service so."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A process whose output goes to `log`; with `is_asked`, its standard input and output are ours."""

    def __init__(
        self, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None, is_asked: bool = False
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.command = list(command)
        pipe = subprocess.PIPE if is_asked else None
        with log.open("ab" if is_asked else "wb") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or output,
                stderr=output,
                cwd=HOME,
                env={**usual_environment(), "PYTHONPATH": str(HOME), "PYTHONUNBUFFERED": "1", **(environ or {})},
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._unread = b""

    def pids(self) -> list[int]:
        return children_of(self.process.pid)

    def say(self, word: str) -> None:
        """A line to its standard input."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{word}\n".encode())
            self.process.stdin.flush()
        except OSError as exc:
            raise self.failed("ended") from exc

    def read_line(self, timeout: float) -> str:
        """The next line of its standard output. Raises ChildFailed."""
        output = self.process.stdout
        assert output is not None
        until = time.monotonic() + timeout
        parts = [self._unread]
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while b"\n" not in parts[-1]:
                if not selector.select(max(until - time.monotonic(), 0)):
                    raise self.failed(f"said nothing for {timeout:.0f} s")
                read = os.read(output.fileno(), 1 << 20)
                if not read:
                    raise self.failed("ended")
                parts.append(read)
        line, _, self._unread = b"".join(parts).partition(b"\n")
        return line.decode()

    def wait_for_port(self, address: str, timeout: float = 60.0) -> None:
        """Return once somebody listens at `host:port`. Raises ChildFailed."""
        until = time.monotonic() + timeout
        while True:
            try:
                with socket.create_connection(parse(address), timeout=1):
                    return
            except OSError:
                if self.process.poll() is not None:
                    raise self.failed("ended") from None
                if time.monotonic() > until:
                    raise self.failed(f"did not listen at {address} within {timeout:.0f} s") from None
                time.sleep(0.01)

    def wait_for_text(self, text: str, count: int, timeout: float = 60.0) -> None:
        """Return once `text` stands `count` times in the log. Raises ChildFailed."""
        until = time.monotonic() + timeout
        while self.log.read_text(errors="replace").count(text) < count:
            if self.process.poll() is not None:
                raise self.failed("ended")
            if time.monotonic() > until:
                raise self.failed(f"did not say {text!r} {count} times within {timeout:.0f} s")
            time.sleep(0.02)

    def failed(self, how: str) -> ChildFailed:
        """An error that quotes the log's end."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.5)
        code = self.process.returncode
        code_text = "" if code is None else f" with code {code}"
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return ChildFailed(f"{' '.join(self.command[:5])} {how}{code_text}: {' | '.join(lines[-3:])[-600:]}")

    def stop(self) -> None:
        """Ask it to end, and end it where it does not; then whatever is left of its session."""
        process = self.process
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
