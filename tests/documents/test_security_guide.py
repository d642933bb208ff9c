"""The commands of the guide to security make a closed cluster, as they stand on the page; of two hosts where that can be."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from contextlib import chdir, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.documents.examples import DOCS
from tests.documents.sessions import sessions
from tests.ports import free_port
from tests.system.hosts import Hosts, why_not
from zmqservices.cli.main import cli
from zmqservices.security.policy import load

HOME = Path(__file__).resolve().parents[2]
MATHS = """
from zmqservices.rpc import rpc

class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b
"""


class Shell:
    """Runs the page's commands in one folder; those that serve go on until the test is over.

    `hosts`: the registry is on the first one, clients too, and services on the second one. Without them all is on loopback.
    """

    def __init__(self, folder, hosts=()):
        self.folder = folder
        self.hosts = hosts
        self.registry = f"{hosts[0].host}:4190" if hosts else f"127.0.0.1:{free_port()}"
        self.processes = []
        (folder / "maths.py").write_text(MATHS)

    def _command(self, line):
        assert line.startswith("zmqservices ")
        words = line.replace("10.0.0.5:4190", self.registry).split()[1:]
        host = self.hosts[words[0] == "run"] if self.hosts else None
        # Nobody has said that this network is trusted.
        prefix = () if host is None else ("ip", "netns", "exec", host.name)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ZMQSERVICES_")}
        environ |= {"PYTHONPATH": f"{HOME}:{self.folder}", "XDG_CACHE_HOME": str(self.folder)}
        return {"args": [*prefix, sys.executable, "-m", "zmqservices", *words], "cwd": self.folder, "env": environ, "text": True}

    def run(self, line):
        if line.startswith(("zmqservices keys", "zmqservices policy")):
            # Here, as a process for each of them would take most of the test's time.
            with chdir(self.folder):
                done = CliRunner().invoke(cli, shlex.split(line)[1:])
            assert done.exit_code == 0, done.output
            return done.output.strip()
        done = subprocess.run(**self._command(line), capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fails(self, line):
        done = subprocess.run(**self._command(line), capture_output=True, timeout=60)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def serve(self, line, until):
        process = subprocess.Popen(**self._command(line), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.processes.append(process)
        while until not in (text := process.stdout.readline()):
            assert text, f"{line} has ended"

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.communicate(timeout=20)


@pytest.fixture
def shell(tmp_path):
    reason = why_not()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must test two hosts: {reason}")
    with nullcontext(()) if reason else Hosts(2) as hosts:
        shell = Shell(tmp_path, hosts)
        yield shell
        shell.close()


@pytest.mark.system
@pytest.mark.timeout(180)
def test_five_commands_make_a_closed_cluster_that_others_cannot_enter(shell):
    page = dict(sessions("security.rst", "zmqservices"))
    lines = list(page)
    start = {"zmqservices registry serve": "serving at", "zmqservices run": "Services started: maths"}
    call = next(line for line in lines if line.startswith("zmqservices call"))

    for line in lines:
        served = next((until for command, until in start.items() if line.startswith(command)), None)
        if served is not None:
            shell.serve(line, served)
        else:
            output = shell.run(line)
            assert output == page[line] or not page[line]

    assert "Forbidden" in shell.fails(call.replace("cluster/client", "cluster/maths"))
    assert "or encrypts its connections (SECURITY)" in shell.fails(call.partition(" -d ")[0])
    for command in ("ls", "health"):
        assert "maths" in shell.run(f"zmqservices {command} --directory tcp://10.0.0.5:4190 -d SECURITY=cluster/client")


def test_the_policy_of_the_page_is_one(tmp_path):
    [block] = re.findall(r"\.\. code-block:: yaml\n\n((?:    .*\n|\n)+)", (DOCS / "security.rst").read_text("utf-8"))
    path = tmp_path / "policy.yaml"
    path.write_text(textwrap.dedent(block))

    policy = load(str(path))

    assert (len(policy.deny), len(policy.allow)) == (1, 1)
