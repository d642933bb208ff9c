"""Supervises several processes of the same services: starts, watches, restarts and stops them together.

Rule 1: no greenlets, no monkey-patching, no ZeroMQ sockets and no forks here: children are new processes.
Rule 2: each child has its own process group, so that Ctrl-C reaches it once, through the supervisor.
Rule 3: when the supervisor ends, each child finishes its running calls and ends too: see `parent_pipe`.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import click

from zmqservices import constants
from zmqservices.cli.child import Child
from zmqservices.cli.merged_metrics import MergedMetrics
from zmqservices.cli.metrics import SOCKET_VARIABLE
from zmqservices.cli.options import Flags
from zmqservices.cli.readiness import Readiness
from zmqservices.cli.shutdown import KILLED
from zmqservices.cli.signals import stop_signals
from zmqservices.cli.watch import Watch
from zmqservices.configuration import seconds

#: Seconds between two checks of processes and files when nothing else wakes the supervisor.
TICK = 0.5
#: A child that was asked to stop is killed after `drain_timeout` and this many seconds.
GRACE = 5.0
#: After a second Ctrl-C, a child is killed after this many seconds.
SHORT_GRACE = 5.0


def supervise(
    services: Sequence[str],
    flags: Flags,
    processes: int,
    reload: bool,
    backdoor: int | str | None,
    with_traceback: bool = False,
) -> int:
    """Run `zmqservices run` in child processes until a signal comes. Returns the exit code.

    Raises ConfigurationError, before any child is started, when the settings cannot be read.
    """
    settings = flags.resolve()
    drain = seconds(
        settings, constants.DRAIN_TIMEOUT_CONFIG_KEY, constants.DEFAULT_DRAIN_TIMEOUT, allow_none=True
    )

    def command(number: int) -> list[str]:
        arguments = [sys.executable, "-m", "zmqservices", "run", *flags.argv()]
        if isinstance(backdoor, str):
            arguments += ["--backdoor-socket", f"{backdoor}.{number}" if number else backdoor]
        elif backdoor is not None:
            # Port 0: each process takes any free port. Otherwise each process needs its own.
            arguments += ["--backdoor-port", str(backdoor and backdoor + number)]
        if with_traceback:
            arguments.append("--traceback")
        return [*arguments, "--", *services]

    readiness = Readiness.read(settings)
    metrics = MergedMetrics.read(settings, processes)
    supervisor = Supervisor(command, processes, float("inf") if drain is None else drain, reload, readiness, metrics)
    if flags.config_file:
        supervisor.watch.add([flags.config_file])
    return supervisor.run()


def say(text: str) -> None:
    """Print one line for the operator."""
    click.echo(text, err=True)
    sys.stderr.flush()


class Supervisor:
    """The supervised processes, and the loop that starts, watches and stops them."""

    def __init__(
        self,
        command: Callable[[int], list[str]],
        count: int,
        drain_timeout: float,
        reload: bool = False,
        readiness: Readiness | None = None,
        metrics: MergedMetrics | None = None,
    ) -> None:
        self.children = [Child(number) for number in range(count)]
        self.watch = Watch()
        self._command = command
        self._drain_timeout = drain_timeout
        self._reload = reload
        self._check_files_at = 0.0
        self._signals: list[int] = []
        self._is_stopping = False
        self._is_killed = False
        self._kill_at = float("inf")
        self._selector = selectors.DefaultSelector()
        self._readiness = readiness or Readiness()
        self._metrics = metrics
        #: The readiness port, while it listens.
        self._port: socket.socket | None = None

    def run(self) -> int:
        """Supervise the processes until they have stopped, or until none can be started again. Returns the exit code."""
        wake, woken = socket.socketpair()
        wake.setblocking(False)
        woken.setblocking(False)
        before = {number: signal.signal(number, self._on_signal) for number in (*stop_signals(), signal.SIGINT)}
        old_fd = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        if self._metrics is not None:
            self._metrics.start()
        try:
            return self._loop(woken)
        finally:
            if self._metrics is not None:
                self._metrics.stop()
            self._readiness.stopping()
            signal.set_wakeup_fd(old_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            wake.close()
            woken.close()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _loop(self, woken: socket.socket) -> int:
        while True:
            now = time.monotonic()
            self._obey_signals(now)
            self._start_those_due(now)
            self._kill_those_overdue(now)
            if self._reload and now >= self._check_files_at:
                self._check_files_at = now + TICK
                self._check_files(now)
            code = self._result()
            if code is not None:
                return code
            for key, _ in self._selector.select(self._pause(now)):
                if key.data is None:
                    woken.recv(4096)
                elif key.data is self._readiness:
                    self._readiness.accept()
                else:
                    self._read_messages(key.data)
            self._reap()
            self._tell_whether_ready()

    def _tell_whether_ready(self) -> None:
        if not self._is_stopping and all(child.is_up for child in self.children):
            self._readiness.open()
        elif self._is_stopping:
            self._readiness.stopping()
        elif self._readiness.is_open:
            self._readiness.close()
        port = self._readiness.listener if self._readiness.is_open else None
        if port is not self._port:
            if self._port is not None:
                self._selector.unregister(self._port)
            self._port = port
            if port is not None:
                self._selector.register(port, selectors.EVENT_READ, self._readiness)

    def _pause(self, now: float) -> float:
        moments = [child.start_at for child in self.children if child.start_at is not None and not self._is_stopping]
        return max(0.0, min([TICK, self._kill_at - now, *(moment - now for moment in moments)]))

    def _result(self) -> int | None:
        if any(child.process for child in self.children):
            return None
        if self._is_stopping:
            return KILLED if self._is_killed else 0
        if self._reload or not all(child.restarts.is_given_up for child in self.children):
            return None
        if not any(child.restarts.was_ever_up for child in self.children):
            say("Error: no process came up, and a restart would not help; see the errors above")
        else:
            say("Error: no process is left, and a restart would not help; see the errors above")
        return 1

    # --- starting

    def _start_those_due(self, now: float) -> None:
        for child in self.children:
            if child.start_at is not None and child.start_at <= now and not self._is_stopping:
                child.start(self._command(child.number), self._variables(child))
                assert child.pipe is not None
                self._selector.register(child.pipe, selectors.EVENT_READ, child)

    def _variables(self, child: Child) -> dict[str, str]:
        return {} if self._metrics is None else {SOCKET_VARIABLE: self._metrics.socket_of(child.number + 1)}

    def _read_messages(self, child: Child) -> None:
        messages = child.read()
        for message in messages or ():
            self.watch.add(message["files"])
            if message["up"] is not None:
                child.is_up = True
                child.restarts.came_up(time.monotonic())
                say(f"{child} is up: {', '.join(message['up'])}")
        if messages is None:
            self._close_pipe(child)

    def _close_pipe(self, child: Child) -> None:
        if child.pipe is not None:
            self._selector.unregister(child.pipe)
            child.pipe.close()
            child.pipe = None
            self._wait_for_end(child)

    def _wait_for_end(self, child: Child) -> None:
        # The process closes its end of the pipe a moment before it can be reaped.
        if child.process:
            try:
                child.process.wait(TICK)
            except subprocess.TimeoutExpired:
                pass

    # --- ending

    def _reap(self) -> None:
        for child in self.children:
            if child.process and child.process.poll() is not None:
                if child.pipe is not None:
                    self._read_messages(child)
                self._close_pipe(child)
                self._ended(child, child.process.returncode)

    def _ended(self, child: Child, code: int) -> None:
        now = time.monotonic()
        name, child.process, child.is_up = str(child), None, False
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        child.start_at = child.restarts.ended(code, now)
        if self._is_stopping:
            child.start_at = None
            if code:
                say(f"{name} {how}")
        elif child.start_at is None:
            wait = " until a file changes" if self._reload else ""
            say(f"{name} {how}: its command line or configuration is wrong; it is not restarted{wait}")
        else:
            say(f"{name} {how}; it is restarted in {child.start_at - now:.1f} s")

    def _obey_signals(self, now: float) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if not self._is_stopping:
                self._is_stopping = True
                self._kill_at = now + self._drain_timeout + GRACE
                self._signal_all(signal.SIGTERM)
            elif number == signal.SIGINT:
                self._is_killed = True
                self._kill_at = min(self._kill_at, now + SHORT_GRACE)
                self._signal_all(signal.SIGINT)

    def _kill_those_overdue(self, now: float) -> None:
        if now >= self._kill_at:
            self._kill_at = float("inf")
            self._is_killed = True
            for child in self.children:
                if child.process:
                    say(f"{child} did not stop in time and is killed")
                    child.signal(signal.SIGKILL)

    def _signal_all(self, number: int) -> None:
        for child in self.children:
            child.signal(number)

    # --- reloading

    def _check_files(self, now: float) -> None:
        changed = self.watch.changed()
        if not changed or self._is_stopping:
            return
        say(f"{os.path.relpath(changed[0])} has changed; restarting the services")
        for child in self.children:
            child.restarts.forgive()
            if child.process:
                child.signal(signal.SIGTERM)
            else:
                child.start_at = now
