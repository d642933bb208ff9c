"""Processes of a fork server behave like processes that start from nothing."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.system.fork_server import ForkServers, program_of
from tests.system.processes import Stage

RUN = [sys.executable, "-m", "zmqservices", "run", "shop"]


@pytest.fixture(scope="module")
def servers():
    # Also where the other tests are to start everything from nothing.
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRESH_PROCESSES", raising=False)
        servers = ForkServers()
        yield servers
        servers.close()


@pytest.fixture
def start(servers, tmp_path):
    """`start(*arguments)`: `zmqservices ARGUMENTS`, and what reads its output."""
    with (tmp_path / "output").open("w+b") as output:

        def start(*arguments, **environ):
            command = [sys.executable, "-m", "zmqservices", *arguments]
            process = servers.start(command, {**Stage.environment(), **environ}, output.fileno(), False)
            return process, lambda: (tmp_path / "output").read_text()

        yield start


@pytest.mark.parametrize("arguments", [("--version",), ("nothing",), ("show-config",)])
def test_output_and_exit_status_are_those_of_a_fresh_process(start, arguments):
    environ = {**Stage.environment(), "ZMQSERVICES_NAMESPACE": "one"}

    forked, output = start(*arguments, ZMQSERVICES_NAMESPACE="one")
    command = [sys.executable, "-m", "zmqservices", *arguments]
    fresh = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50)

    assert forked.wait(50) == fresh.returncode
    assert output() == fresh.stdout
    assert type(forked).__name__ == "Forked"


def test_a_signal_ends_the_process_and_nothing_else(start):
    first, _ = start("events", "tail")
    other, _ = start("events", "tail")

    assert os.getsid(first.pid) == first.pid
    first.send_signal(signal.SIGKILL)

    assert first.wait(50) == -signal.SIGKILL
    assert other.poll() is None
    other.send_signal(signal.SIGKILL)
    other.wait(50)


def test_a_process_has_none_of_the_servers_descriptors(servers, tmp_path):
    config = {"DIRECTORY": "static:maths=tcp://127.0.0.1:1"}
    command = [sys.executable, "-m", "tests.system.remote", json.dumps(config)]
    with (tmp_path / "output").open("wb") as output:
        process = servers.start(command, Stage.environment(), output.fileno(), True)

        links = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 1, 2)]
        process.stdin.close()

        assert process.wait(50) == 0, (tmp_path / "output").read_text()
    assert links[0].startswith("pipe:") and links[1].startswith("pipe:") and links[2] == str(tmp_path / "output")
    process.stdout.close()


@pytest.mark.parametrize(
    "command",
    [
        ["etcd"],
        [sys.executable, "-c", "pass"],
        [*RUN[:3], "test"],
        ["env", "-C", "/", *RUN],
        [sys.executable, "-X", "dev", *RUN[1:]],
    ],
)
def test_other_programs_start_from_nothing(command):
    assert program_of(command) is None


def test_a_program_that_patches_the_standard_library_has_a_server_of_its_own():
    assert program_of(RUN).server == "patched"
    assert program_of([*RUN, "--processes", "2"]).server == "plain"
    assert program_of([*RUN[:3], "ls"]).server == "plain"
    assert program_of([sys.executable, "-W", "error", *RUN[1:]]).options == ("-W", "error")
    assert program_of(["ip", "netns", "exec", "one", *RUN]).namespace == "one"


@pytest.mark.parametrize(("name", "is_known"), [("ZMQSERVICES_NAMESPACE", True), ("PYTHONPATH", False), ("LD_PRELOAD", False)])
def test_what_counts_when_an_interpreter_starts_is_no_servers_business(servers, name, is_known):
    environment = Stage.environment()

    assert servers._server(program_of([*RUN[:3], "ls"]), environment).knows({**environment, name: "/elsewhere"}) is is_known
