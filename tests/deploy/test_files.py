"""The files of deploy/ are what they say: checked by the tools of their kind, and their commands and settings are ours."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import DEPLOY, HOME, configuration_of, manifests, only, pods
from zmqservices import configuration, constants
from zmqservices.cli.main import cli

BIN = Path(sys.executable).parent
SETTINGS = {value for name, value in vars(constants).items() if name.endswith("_CONFIG_KEY")}


def commands():
    """All that is given to `zmqservices` in these files, without the name itself."""
    for path in (DEPLOY / "systemd").glob("*.service"):
        for line in path.read_text().splitlines():
            if line.startswith("ExecStart="):
                yield line.partition("/bin/zmqservices ")[2].replace("%i", "shop").split()
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    for service in compose["services"].values():
        yield service["command"]
        if "healthcheck" in service:
            yield service["healthcheck"]["test"][2:]
    yield re.findall(r'"([^"]*)"', (DEPLOY / "docker" / "Dockerfile").read_text().rpartition("CMD")[2])
    for pod in pods():
        for container in pod["containers"]:
            yield container["args"]
            probe = container.get("livenessProbe", {}).get("exec")
            if probe and probe["command"][0] == "sh":
                yield shlex.split(probe["command"][2])[1:]
            elif probe:
                yield probe["command"][1:]


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_each_command_line_is_one_of_ours(arguments):
    command, rest = cli, list(arguments)
    while hasattr(command, "get_command"):
        name = rest.pop(0)
        command = command.get_command(None, name)
        assert command is not None, f"there is no command {name}"
    command.make_context(command.name, rest)


def configurations():
    yield yaml.safe_load((DEPLOY / "systemd" / "shop.yaml").read_text())
    for manifest in manifests():
        if manifest["kind"] == "ConfigMap":
            yield yaml.safe_load(manifest["data"]["config.yaml"])


def test_each_setting_is_one_of_ours():
    found = list(configurations())
    assert len(found) == 4
    assert {key for one in found for key in one} <= SETTINGS
    assert [configuration.unknown_keys(one) for one in found] == [{}] * 4


@pytest.mark.parametrize("manifest", list(manifests()), ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_takes_each_manifest(manifest):
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", ["hello", "hello-without-registry", "hello-closed-without-registry"])
def test_a_pod_has_more_time_to_end_than_its_drain(name):
    config = configuration_of(name)
    (pod,) = pods(name)
    assert pod["terminationGracePeriodSeconds"] > config["drain_timeout"]
    ports = {one["name"]: one["containerPort"] for one in pod["containers"][0]["ports"]}
    assert config["BIND_ADDRESS"].endswith(f":{ports['calls']}")
    assert config["ADVERTISE_ADDRESS"].endswith(f":{ports['calls']}")
    assert config["READY_ADDRESS"].endswith(f":{ports['ready']}")


def test_the_name_of_the_pods_is_that_of_the_headless_service():
    service, deployment = (only("hello-without-registry", kind) for kind in ("Service", "Deployment"))
    (port,) = service["spec"]["ports"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    assert configuration_of("hello-without-registry")["DIRECTORY"] == f"dns://{service['metadata']['name']}:{port['port']}"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert configuration_of("hello-without-registry")["BIND_ADDRESS"].endswith(f":{port['port']}")


def test_the_image_is_made_as_hadolint_wants_it():
    linted = subprocess.run([BIN / "hadolint", DEPLOY / "docker" / "Dockerfile"], capture_output=True, text=True)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_what_the_image_copies_is_there():
    for line in (DEPLOY / "docker" / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (HOME / source).exists(), source


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze on this machine")
@pytest.mark.parametrize("name", ["zmqservices@.service", "zmqservices-registry.service"])
def test_systemd_takes_each_unit(name, tmp_path):
    # It looks for the programs, which are elsewhere on this machine, and for the units that are named.
    text = re.sub(r"(?<=ExecStart=)\S+/zmqservices", sys.executable, (DEPLOY / "systemd" / name).read_text())
    (tmp_path / "network-online.target").write_text("[Unit]\nDescription=of systemd\n")
    (tmp_path / "zmqservices-registry.service").write_text("[Service]\nExecStart=/bin/true\n")
    unit = tmp_path / name.replace("@", "@shop")
    unit.write_text(text)

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", unit],
        capture_output=True, text=True, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip

    assert (verified.returncode, verified.stderr) == (0, "")
