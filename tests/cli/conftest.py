"""Real command lines in real processes, which are gone when the test is over."""

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

HOME = Path(__file__).resolve().parents[2]
#: Seconds that anything here may take on a busy machine.
PATIENCE = 30.0

TICKER = """
    import os, time
    import gevent
    from zmqservices.extensions import DependencyProvider, Entrypoint


    class Tick(Entrypoint):
        pass


    class Slow(DependencyProvider):
        def stop(self):
            # Line by line in one write each: several processes share the output.
            os.write(1, b"stopping\\n")
            gevent.sleep(float(os.environ.get("SLOW_STOP", 0)))
            os.write(1, b"stopped\\n")


    class Ticker:
        name = "ticker"
        slow = Slow()

        @Tick.decorator
        def tick(self):
            pass
"""


class Process:
    """A command that runs, and what it has said so far."""

    def __init__(self, program, arguments, cwd, environ):
        self.lines = []
        self._queue = queue.Queue()
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", *program, *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(HOME), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.popen.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def until(self, text, times=1):
        """Wait for the line with `text` (for as many as `times` of them from here on), and return it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no {text!r} in:\n{''.join(self.lines)}"
            self.lines.append(line)
            times -= text in line
            if times == 0:
                return line

    def signal(self, number):
        self.popen.send_signal(number)

    def end(self):
        """Wait for its end. Returns the exit code."""
        code = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while not self._queue.empty():
            self.lines.append(self._queue.get() or "")
        return code

    @property
    def said(self):
        return "".join(self.lines)

    def clean_up(self):
        if self.popen.poll() is None:
            # Its children first, while they can be found; they hold the other end of the pipe that is read.
            for process in [*psutil.Process(self.popen.pid).children(recursive=True), self.popen]:
                process.send_signal(signal.SIGKILL)
            self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "a child outlived its parent"
        self.popen.stdout.close()


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """A directory of this test's own: services of another test that were killed stay listed for a while."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(probe.getsockname()[1]))


@pytest.fixture
def write(tmp_path):
    """Write a file into the test's folder."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def ticker(write):
    """A module with a service that needs no network."""
    return write("ticker_module.py", TICKER)


@pytest.fixture
def start(tmp_path):
    """Start `zmqservices ARGUMENTS` in the test's folder; `program` is what runs instead of the command."""
    processes = []

    def start(*arguments, program=("-m", "zmqservices"), **environ):
        process = Process(program, arguments, tmp_path, environ)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.clean_up()


@pytest.fixture
def zmqservices(tmp_path):
    """Run `zmqservices ARGUMENTS` to its end. Returns the completed process, with texts."""

    def run(*arguments, input="", **environ):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "zmqservices", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HOME), **environ},
            input=input,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run
