"""The liveness probe of the Kubernetes manifest asks the instance itself, with no registry anywhere."""

import os
import signal
import subprocess
import sys

import pytest
import yaml

from tests.deploy.manifests import HOME, pods
from tests.ports import free_port

pytestmark = pytest.mark.system


def test_the_probe_finds_one_that_answers_and_one_that_does_not(stage):
    (pod,) = pods("hello")
    command = pod["containers"][0]["livenessProbe"]["exec"]["command"]
    port = free_port()
    # Nobody is at the registry's address.
    settings = [f"DIRECTORY=tcp://127.0.0.1:{free_port()}", f"BIND_ADDRESS=tcp://127.0.0.1:{port}"]
    served = ["run", "examples.hello", *(part for one in settings for part in ("-d", one))]
    service = stage.start("hello", [sys.executable, "-m", "zmqservices", *served], {})
    service.has_said("Services started")

    def probe(timeout=None):
        line = [one.replace(":4000", f":{port}") for one in command[1:]]
        if timeout:
            line[line.index("--timeout") + 1] = timeout
        return subprocess.run(
            [sys.executable, "-m", "zmqservices", *line],
            capture_output=True, text=True, cwd=HOME, env={**os.environ, "ZMQSERVICES_NAMESPACE": "default"}, timeout=60,
        )  # fmt: skip

    assert yaml.safe_load(probe().stdout.splitlines()[1].split()[3]) == "ok"
    assert probe().returncode == 0
    os.kill(service.pid, signal.SIGSTOP)
    assert probe("0.5").returncode == 5
    os.kill(service.pid, signal.SIGCONT)
    assert probe().returncode == 0
