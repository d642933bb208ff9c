"""Two pods of the closed manifest at loopback addresses, which DNS names, with keys as the kubelet mounts them."""

import os
import subprocess
import sys
from contextlib import chdir, closing
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from discovery.security.authority import Authority
from discovery.security.keys import Keys
from tests.deploy.manifests import DEPLOY, HOME, configuration_of, manifests, only, pods
from tests.discovery.dns_server import DnsServer
from tests.ports import free_port
from zmqservices.cli.keys import keys_command
from zmqservices.standalone.rpc import ServiceRpcProxy

pytestmark = pytest.mark.system
FILE = "hello-closed-without-registry"
GROUP = 20001


def comment():
    return (DEPLOY / "kubernetes" / f"{FILE}.yaml").read_text().partition("apiVersion")[0]


def mounted(folder, to):
    """The folder of a node as a Secret: root's files, which the group of the pod may read."""
    to.mkdir()
    for path in folder.iterdir():
        copied = to / path.name
        copied.write_bytes(path.read_bytes())
        copied.chmod(0o440 if os.geteuid() == 0 else 0o400)
        if os.geteuid() == 0:
            os.chown(copied, 0, GROUP)
    return to


def test_pods_that_share_a_secret_are_called_while_another_key_takes_over(stage, tmp_path):
    config, (pod,) = configuration_of(FILE), pods(FILE)
    make, issue = (line.split()[3:] for line in comment().splitlines() if line.startswith("#   zmqservices keys"))
    folders = {name: tmp_path / "cluster" / name for name in ("hello", "next")}
    with chdir(tmp_path):
        for command in (make, *(["issue", name, *issue[2:]] for name in folders)):
            assert (done := CliRunner().invoke(keys_command, command)).exit_code == 0, done.output
    keys = [Keys.read(folder).pair.public.hex() for folder in folders.values()]
    client = Authority(tmp_path / "cluster").issue("client", {"calls": ("hello_world",)})
    port, name = free_port(), f"{only(FILE, 'Service')['metadata']['name']}.default.svc.cluster.local"
    prefix = ["setpriv", "--groups", str(GROUP), "--"] if os.geteuid() == 0 else []
    with closing(DnsServer()) as server:
        text = yaml.safe_dump(config).replace(":4000", f":{port}").replace("0.0.0.0:9465", f"${{POD_IP}}:{free_port()}")
        # The search list of a pod, which is not that of this machine, makes the full name of it.
        text = text.replace(f"dns://hello:{port}", f"dns://{name}:{port}?server={server.address}").replace("0.0.0.0", "${POD_IP}")

        def start(host, node):
            path = tmp_path / f"{node}.yaml"
            path.write_text(text.replace(config["SECURITY"], str(mounted(folders[node], tmp_path / f"mounted-{node}"))))
            arguments = [str(path) if one.endswith("config.yaml") else one for one in pod["containers"][0]["args"]]
            command = [*prefix, sys.executable, "-m", "zmqservices", *arguments]
            process = stage.start(f"pod-{host}", command, {"POD_IP": host, "HELLO_KEY": ",".join(keys)})
            process.has_said("Services started")
            return process

        server.set(name, "A", "127.0.4.1", "127.0.4.2", ttl=1)
        former = start("127.0.4.1", "hello")
        settings = {
            "DIRECTORY": f"dns://{name}:{port}?server={server.address}#{','.join(keys)}", "SECURITY": str(client),
            "DIRECTORY_CACHE": "none", "rpc_wait_for_service": 20,
        }  # fmt: skip
        with ServiceRpcProxy("hello_world", settings, timeout=30) as hello:
            assert "you" in hello.hello("you")
            start("127.0.4.2", "next")
            former.terminate()
            assert former.wait() == 0
            assert "you" in hello.hello("you")

        (container,) = pod["containers"]
        line = container["livenessProbe"]["exec"]["command"][2]
        line = line.replace("127.0.0.1:4000", f"127.0.4.2:{port}").replace(config["SECURITY"], str(folders["next"]))
        environment = {**os.environ, "HELLO_KEY": keys[1], "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        probe = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=HOME, env=environment, timeout=60)
        assert (probe.returncode, "ok" in probe.stdout) == (0, True), probe.stderr


def test_the_manifest_mounts_the_secret_for_the_pods_group_alone():
    (pod,) = pods(FILE)
    (secret,) = [one["secret"] for one in pod["volumes"] if "secret" in one]
    (container,) = pod["containers"]

    assert pod["securityContext"]["fsGroup"] and secret["defaultMode"] == 0o440
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts["keys"] == configuration_of(FILE)["SECURITY"]
    # The name in the URL is that of the headless Service, and the key comes from what the comment makes.
    assert configuration_of(FILE)["DIRECTORY"].startswith(f"dns://{only(FILE, 'Service')['metadata']['name']}:4000#")
    assert container["envFrom"] == [{"configMapRef": {"name": "hello-key"}}]
    assert list(manifests(FILE))[0]["spec"]["clusterIP"] == "None"
