"""Runs real command lines in real processes, which have ended when the test is over.

Most are forks of a process that has imported the package (see tests/system/fork_server.py). Where a module is about how a process
starts, it says FRESH_PROCESSES = True, or names the tests that are.
"""

import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port
from tests.system.fork_server import ForkServers

HOME = Path(__file__).resolve().parents[2]
#: Seconds that anything here may take on a busy machine.
PATIENCE = 45.0

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
    """A running command and its output so far."""

    def __init__(self, servers, command, cwd, environ):
        self.lines = []
        self._queue = queue.Queue()
        reads, writes = os.pipe()
        self._output = open(reads)
        with open(os.devnull) as null, open(writes, "w") as output:
            self.popen = servers.run(command, environ, cwd, [null.fileno(), output.fileno(), output.fileno()])
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._output:
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

    def _children(self):
        try:
            return psutil.Process(self.popen.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def clean_up(self):
        if self.popen.poll() is None:
            # Its children first, while they can be found; they hold the other end of the pipe that is read. Each of them may
            # end by itself at any moment.
            for process in [*self._children(), self.popen]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "a child outlived its parent"
        self._output.close()


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """A directory of this test's own: services of another test that were killed stay listed for a while."""
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(free_port()))


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


@pytest.fixture(scope="session")
def fork_servers():
    servers = ForkServers()
    yield servers
    servers.close()


@pytest.fixture
def servers(request, fork_servers):
    """Starts processes. They are new processes, not forks, if the test's module asks for that."""
    fresh = getattr(request.module, "FRESH_PROCESSES", ())
    return ForkServers(is_on=False) if fresh is True or request.function.__name__ in fresh else fork_servers


@pytest.fixture
def start(tmp_path, servers):
    """Start `zmqservices ARGUMENTS` in the test's folder; `program` is what runs instead of the command."""
    processes = []

    def start(*arguments, program=("-m", "zmqservices"), **environ):
        command = [sys.executable, "-W", "error", *program, *arguments]
        process = Process(servers, command, tmp_path, {**os.environ, "PYTHONPATH": str(HOME), **environ})
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.clean_up()


@pytest.fixture
def zmqservices(tmp_path, servers):
    """Run `zmqservices ARGUMENTS` to its end. Returns the completed process, with texts."""

    def run(*arguments, input="", **environ):
        command = [sys.executable, "-W", "error", "-m", "zmqservices", *arguments]
        environ = {**os.environ, "PYTHONPATH": str(HOME), **environ}
        with ExitStack() as files:
            stdin, stdout, stderr = streams = [files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            stdin.write(input)
            stdin.seek(0)
            process = servers.run(command, environ, tmp_path, [stream.fileno() for stream in streams])
            try:
                code = process.wait(PATIENCE)
            finally:
                process.send_signal(signal.SIGKILL)  # It has ended, unless it takes too long.
            stdout.seek(0)
            stderr.seek(0)
            return subprocess.CompletedProcess(command, code, stdout.read(), stderr.read())

    return run
