"""Two pods of the manifest without a registry, as processes at loopback addresses, which DNS names as a headless Service does."""

import sys
from contextlib import closing

import pytest
import yaml

from tests.deploy.manifests import configuration_of, only, pods
from tests.discovery.dns_server import DnsServer
from tests.ports import free_port
from tests.system.processes import eventually

pytestmark = pytest.mark.system
FILE = "hello-without-registry"


def test_pods_that_a_headless_service_names_are_found_and_replaced(stage, tmp_path):
    config, (pod,) = configuration_of(FILE), pods(FILE)
    full_name = f"{only(FILE, 'Service')['metadata']['name']}.default.svc.cluster.local"
    port, ready_port = free_port(), free_port()
    with closing(DnsServer()) as server:
        text = yaml.safe_dump(config).replace(":4000", f":{port}").replace("0.0.0.0", "${POD_IP}")
        # The search list of a pod, which is not that of this machine, makes the full name of it.
        text = text.replace("dns://shop", f"dns://{full_name}").replace(f"local:{port}", f"local:{port}?server={server.address}")
        path = tmp_path / "config.yaml"
        path.write_text(text.replace(":9465", f":{ready_port}"))
        arguments = [str(path) if one.endswith("config.yaml") else one for one in pod["containers"][0]["args"]]

        def start(host):
            process = stage.start(f"pod-{host}", [sys.executable, "-m", "zmqservices", *arguments], {"POD_IP": host})
            process.has_said("Services started")
            return process

        def call():
            url = f"dns://{full_name}:{port}?server={server.address}"
            command = [sys.executable, "-m", "zmqservices", "call", "hello_world.hello", "you", "--directory", url]
            process = stage.start("call", command)
            return process.wait(), process.output()

        first, second = start("127.0.3.1"), start("127.0.3.2")
        server.set(full_name, "A", "127.0.3.1", "127.0.3.2", ttl=30)
        status, output = call()
        assert (status, "you" in output) == (0, True)
        first.terminate()
        assert first.wait() == 0
        assert call()[0] == 0
        start("127.0.3.3")
        server.set(full_name, "A", "127.0.3.3", ttl=30)
        second.terminate()
        assert second.wait() == 0
        eventually(lambda: call()[0] == 0, what="the pod at the new address is called")
