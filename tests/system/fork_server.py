"""Starts Python programs as forks of a process that has imported their modules.

Importing zmqservices takes most of the processor time of a short program, and tests/system and tests/cli start hundreds of
them. A fork server imports it once. Each program that it forks is a process of its own: it has its own pid, session,
descriptors, folder, environment and exit status, and runs its module as `python -m` does.

With FRESH_PROCESSES in the environment every program starts from nothing, as the programs of other folders always do.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

# As they are before one of the servers patches the standard library.
_fork, _waitpid, _poll = os.fork, os.waitpid, select.poll

FRESH = "FRESH_PROCESSES"
ROOT = Path(__file__).parents[2]

#: What the programs of each server import sooner or later.
MODULES = {
    "plain": (
        *("click", "gevent", "discovery.cli", "discovery.server.registry_server", "discovery.client.registry_client"),
        *("zmqservices.cli.main", "zmqservices.cli.ls", "zmqservices.standalone.rpc", "zmqservices.standalone.events"),
    ),
    "patched": (
        *("zmqservices.cli.main", "zmqservices.cli.run", "zmqservices.runners", "zmqservices.cluster.node"),
        *("zmqservices.cluster.registration", "zmqservices.rpc", "zmqservices.events", "zmqservices.timer"),
        *("zmqservices.observability.logs", "discovery.client.registry_client", "discovery.server.registry_server"),
    ),
}

#: The modules that may be run, and the server of each. `zmqservices run` patches the standard library.
SERVERS = {
    "discovery": "plain",
    "zmqservices": "plain",
    "zmqservices run": "patched",
    "tests.system.remote": "plain",
    "tests.system.chaos.caller": "plain",
}

#: How the variables begin that count when an interpreter starts or a module is imported. Programs read others while they run.
READ_EARLY = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "GEVENT", "GREENLET", "PURE_", "LANG", "LC_", "TZ", "COV", "SSL", "OPENSSL")

#: Options of the interpreter with which a fork server may be started, as the programs that it forks have them.
OPTIONS = {"-u": 1, "-W": 2}

#: The option of setns(2) for network namespaces.
CLONE_NEWNET = 0x40000000
LONGEST_REQUEST = 128 * 1024


class Program(NamedTuple):
    """What is to be run: a module with arguments, in a network namespace if one is named.

    `options`: those of the interpreter.
    """

    module: str
    arguments: list[str]
    namespace: str
    server: str
    options: tuple[str, ...]


def program_of(command: Sequence[str]) -> Program | None:
    """The program of a command line; None if it is none that a fork server runs."""
    words = list(command)
    namespace = ""
    if words[:3] == ["ip", "netns", "exec"]:
        namespace, words = words[3], words[4:]
    if words[:1] != [sys.executable]:
        return None
    options, words = _options(words[1:])
    if len(words) < 2 or words[0] != "-m":
        return None
    module, arguments = words[1], words[2:]
    server = SERVERS.get(f"{module} {arguments[0]}" if arguments else module) or SERVERS.get(module)
    if server is None or arguments[:1] in (["shell"], ["test"]):
        return None  # These patch the standard library, and import what the servers have not imported.
    if {"--processes", "--reload"} & set(arguments):
        server = "plain"  # A supervisor patches nothing in its own process.
    return Program(module, arguments, namespace, server, options)


def _options(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The options at the beginning that a fork server can have, and what follows."""
    end = 0
    while end < len(words) and words[end] in OPTIONS:
        end += OPTIONS[words[end]]
    return tuple(words[:end]), words[end:]


class Forked:
    """A process that a fork server started, with what is used of `subprocess.Popen`."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.returncode: int | None = None
        #: Where the exit status can be read once the process has ended.
        self._status = status

    def poll(self) -> int | None:
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0.0)
        return status

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            said = os.read(self._status, 4)
            os.close(self._status)
            assert said, f"the fork server of pid {self.pid} has ended"
            (self.returncode,) = struct.unpack("i", said)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # It ended since.


class ForkServer:
    """The test's end of a fork server."""

    def __init__(self, kind: str, options: Sequence[str], environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, *options, "-m", "tests.system.fork_server", kind, str(other.fileno())],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )

    def knows(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment may be forked here."""
        own = self._environment
        return all(
            own.get(name) == environment.get(name) for name in own.keys() | environment.keys() if name.startswith(READ_EARLY)
        )

    def start(self, program: Program, environment: Mapping[str, str], folder: Path, streams: Sequence[int]) -> Forked:
        """Fork a process in this folder with these descriptors as stdin, stdout and stderr."""
        request = json.dumps([program.module, program.arguments, program.namespace, str(folder), dict(environment)]).encode()
        assert len(request) <= LONGEST_REQUEST, f"a request of {len(request):,} bytes; {LONGEST_REQUEST:,} at most are sent"
        status, its_status = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._control, [request], [its_status, *streams])
                pid = int(self._control.recv(32) or 0)
        finally:
            os.close(its_status)
        assert pid, "the fork server has ended"
        return Forked(pid, status)

    def close(self) -> None:
        self._control.close()
        self._process.wait(20)


class ForkServers:
    """Starts command lines, by a fork server where one runs the program. The servers start when they are needed."""

    def __init__(self, is_on: bool = True) -> None:
        self._is_on = is_on and FRESH not in os.environ and hasattr(os, "pidfd_open")
        self._lock = threading.Lock()
        self._servers: dict[tuple[str, tuple[str, ...]], ForkServer] = {}

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], output: int, piped: bool
    ) -> Forked | subprocess.Popen[bytes]:
        """A process whose stderr is `output`; so is its stdout, unless that and its stdin are pipes."""
        if not piped:
            with open(os.devnull, "rb") as null:
                return self.run(command, environment, ROOT, [null.fileno(), output, output])
        reads, writes = os.pipe(), os.pipe()
        try:
            process = self.run(command, environment, ROOT, [reads[0], writes[1], output])
        finally:
            os.close(reads[0])
            os.close(writes[1])
        process.stdin, process.stdout = os.fdopen(reads[1], "wb"), os.fdopen(writes[0], "rb")
        return process

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, streams: Sequence[int]
    ) -> Forked | subprocess.Popen[bytes]:
        """A process in a session of its own, in this folder, with these descriptors as stdin, stdout and stderr."""
        program = program_of(command) if self._is_on else None
        if program is not None:
            server = self._server(program, environment)
            if server.knows(environment):
                return server.start(program, environment, folder, streams)
        stdin, stdout, stderr = streams
        return subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )

    def _server(self, program: Program, environment: Mapping[str, str]) -> ForkServer:
        key = program.server, program.options
        with self._lock:
            if key not in self._servers:
                self._servers[key] = ForkServer(*key, environment)
            return self._servers[key]

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


# --- the server's own process ----------------------------------------------------------------------------------------


def serve(kind: str, control: socket.socket) -> None:
    """Fork until the other end is closed. Returns in the forked processes only by exceptions of the programs."""
    if kind == "patched":
        from zmqservices.cli import patching

        patching.monkey_patch()
    for name in MODULES[kind]:
        importlib.import_module(name)
    if kind == "patched":
        from zmqservices.cli import run

        # It was done above, before all imports; a program's own would patch `multiprocessing` twice.
        run.monkey_patch = lambda: None
    gc.collect()
    gc.freeze()  # Pages that hold these objects stay shared: the collector of a forked process does not write to them.
    poller = _poll()
    poller.register(control, select.POLLIN)
    #: By the descriptor that tells of a process's end: its pid, and where its exit status is awaited.
    living: dict[int, tuple[int, int]] = {}
    while True:
        for fd, _ in poller.poll():
            if fd in living:
                poller.unregister(fd)
                _report(*living.pop(fd))
                os.close(fd)
                continue
            message, fds, _, _ = socket.recv_fds(control, LONGEST_REQUEST, 8)
            if not message:
                return
            pid = _fork()
            if pid == 0:
                _become(control, fds, *json.loads(message))
            for its in fds[1:]:
                os.close(its)
            told = os.pidfd_open(pid)
            living[told] = (pid, fds[0])
            poller.register(told, select.POLLIN)


def _report(pid: int, status: int) -> None:
    _, code = _waitpid(pid, 0)
    try:
        os.write(status, struct.pack("i", os.waitstatus_to_exitcode(code)))
    except BrokenPipeError:
        pass  # The test is over, and does not wait for it.
    os.close(status)


def _become(
    control: socket.socket,
    fds: list[int],
    module: str,
    arguments: list[str],
    namespace: str,
    folder: str,
    environment: dict[str, str],
) -> NoReturn:
    """Run a module in this process, as `python -m` does, and end it."""
    os.setsid()
    for fd, its in enumerate(fds[1:]):
        os.dup2(its, fd)
    # Only now does the test know of the process.
    control.send(b"%d" % os.getpid())
    control.detach()  # The descriptor is closed with all others, and may be another's when the program ends.
    os.closerange(3, 1 << 20)
    if namespace:
        _enter(namespace)
    os.chdir(folder)
    sys.path[0] = folder
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


def _enter(namespace: str) -> None:
    """Move this process to a network namespace that `ip netns` made."""
    fd = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns to {namespace} failed")
    os.close(fd)


if __name__ == "__main__":
    serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
