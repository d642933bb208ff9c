"""Processes that tests start. Their output is kept for the report of a failure, and none outlives the test run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.system.fork_server import ForkServers

#: Seconds that a process gets to come up or to end. Generous: the machine may be busy, and nothing waits it out.
PATIENCE = 45.0

#: Seconds between two looks at a condition that tells nobody when it comes true.
LOOK = 0.01


def eventually(condition: Callable[[], Any], timeout: float = PATIENCE, what: str = "", pause: float = LOOK) -> Any:
    """The first true value of `condition()`, looked at each `pause` seconds; AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(pause)


class Guardian:
    """A process that kills, by pid, what is left when this one ends, in whatever way it ends.

    `forks`: the processes are started by fork servers where these run the program.
    """

    PROGRAM = """
import os, signal, sys
pids = set()
for line in sys.stdin:
    sign, pid = line[0], int(line[1:])
    (pids.add if sign == "+" else pids.discard)(pid)
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""

    def __init__(self, forks: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        #: What starts the processes that are watched.
        self.servers = ForkServers(forks)

    def watch(self, pid: int) -> None:
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        self._tell(f"-{pid}\n")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def close(self) -> None:
        self.servers.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)


class Process:
    """One process. Signals go to its pid; `end` is safe at any time."""

    def __init__(
        self,
        guardian: Guardian,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        piped: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self._guardian = guardian
        self._is_stopped = False
        with log.open("ab") as output:
            self.popen = guardian.servers.start(command, environment, output.fileno(), piped)
        guardian.watch(self.pid)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def has_said(self, text: str, timeout: float = PATIENCE) -> None:
        """Return once `text` is in the output; AssertionError when it ends, or time does, before."""

        def look() -> bool:
            running = self.is_running
            if text in self.output():
                return True
            assert running, f"{self.name} ended with {self.popen.returncode} before it said {text!r}"
            return False

        eventually(look, timeout, f"{self.name} says {text!r}")

    def terminate(self) -> None:
        """SIGTERM."""
        self.popen.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C sends it."""
        self.popen.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL."""
        self.popen.send_signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._is_stopped = True
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._is_stopped = False
        self.popen.send_signal(signal.SIGCONT)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit status."""
        try:
            status = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} (pid {self.pid}) did not end within {timeout:g} s") from None
        self._guardian.forget(self.pid)
        return status

    def end(self, patience: float = 5.0) -> None:
        """Ask, then kill."""
        if self.is_running and not self._is_stopped and patience:
            self.terminate()
            try:
                self.popen.wait(patience)
            except subprocess.TimeoutExpired:
                pass
        if self.is_running:
            self.kill()
        self.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()


class Stage:
    """Starts processes, and ends all of them when the test is over."""

    def __init__(self, guardian: Guardian, folder: Path) -> None:
        self._guardian = guardian
        self._folder = folder
        self.started: list[Process] = []

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None, piped: bool = False
    ) -> Process:
        log = self._folder / f"{len(self.started):02d}-{name}.log"
        process = Process(self._guardian, name, command, {**self.environment(), **(environment or {})}, log, piped)
        self.started.append(process)
        return process

    @staticmethod
    def environment() -> dict[str, str]:
        """This process's own, without what a developer's shell may say of directories."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ZMQSERVICES_")}
        return {**kept, "PYTHONUNBUFFERED": "1"}

    def end(self) -> None:
        """End everything, side by side."""
        for process in self.started:
            if process.is_running and not process._is_stopped:
                process.terminate()
        for process in self.started:
            process.end()

    def logs(self) -> list[tuple[str, str]]:
        """What each process wrote, the end of it at least."""
        return [(f"{p.name} (pid {p.pid})", p.output()[-6000:]) for p in self.started]
