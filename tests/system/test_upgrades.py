"""A node of an earlier release and one of this: calls, events and directories work both ways, so that a cluster is upgraded
process by process. docs/protocol.rst has the rule that makes it so.
"""

import shutil
import sys
import time
import uuid
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.discovery.dns_server import DnsServer
from tests.ports import free_port
from tests.system.clusters import QUICK
from tests.system.load import Load, told
from tests.system.processes import eventually
from tests.system.upgrades import install, revision
from zmqservices.exceptions import RemoteError
from zmqservices.standalone.rpc import ClusterRpcProxy

#: A value of each kind that a message may carry.
VALUES = [None, True, 2**70, 1.5, "text", b"\0\xff", [1, [2]], {"a": {"b": None}}, (1, 2), {3}, Decimal("1.50")]
VALUES += [datetime(2024, 2, 29, 12, 30), timedelta(days=-1, microseconds=1), uuid.UUID(int=7), bytes(200_000)]


@pytest.fixture(scope="module")
def this(tmp_path_factory):
    """The folder where this tree is installed."""
    return install(None, tmp_path_factory.mktemp("this"))


@pytest.fixture(scope="module", params=["the commit before", "the release before"])
def former(request, tmp_path_factory):
    """The folder where an earlier tree is installed."""
    return install(revision(request.param), tmp_path_factory.mktemp(request.param.replace(" ", "-")))


@pytest.fixture
def start(stage, tmp_path):
    """Starts a program of one release, in a folder where no other is to be found."""
    services = tmp_path / "services"
    services.mkdir()
    shutil.copy(Path(__file__).parent / "services" / "upgraded.py", services)

    def start(release, name, *arguments, environment=None):
        command = ["env", "-C", str(services), sys.executable, "-m", *arguments]
        return stage.start(name, command, {"PYTHONPATH": f"{release}:{services}", **(environment or {})})

    return start


@pytest.mark.timeout(120)
def test_nodes_of_two_releases_work_with_each_other(start, this, former, tmp_path):
    ports = {"registry of this": free_port(), "registry of the former": free_port()}
    old_url, new_url = (f"tcp://127.0.0.1:{port}" for port in (ports["registry of the former"], ports["registry of this"]))
    environment = {"ZMQSERVICES_DIRECTORY": f"{old_url},{new_url}", "ZMQSERVICES_NAMESPACE": "upgrade"}
    node_port = free_port()
    for release, url in ((former, old_url), (this, new_url)):
        start(release, "registry", "discovery", "serve", "--bind", url, "--ttl", "2").has_said("serving at")

    def start_node(release, service, host):
        given = {**QUICK, "JOURNAL_FOLDER": tmp_path / "journals", "DIRECTORY_CACHE": "none"}
        given["BIND_ADDRESS"] = f"tcp://{host}:{node_port}"
        definitions = [part for key, value in given.items() for part in ("-d", f"{key}={value}")]
        return start(release, service, "zmqservices", "run", f"upgraded:{service}", *definitions, environment=environment)

    nodes = [start_node(former, "Left", "127.0.4.1"), start_node(this, "Right", "127.0.4.2")]
    for node in nodes:
        node.has_said("Services started")

    # This release finds both through the registry of the former one.
    with ClusterRpcProxy({**QUICK, "DIRECTORY": old_url, "NAMESPACE": "upgrade"}, timeout=20) as cluster:
        assert all(place.startswith(str(former)) for place in cluster.left.home())
        assert all(place.startswith(str(this)) for place in cluster.right.home())
        # The caller on the left is of the former release and the one on the right is of this one, and so are their callees.
        assert cluster.left.ask(VALUES) == cluster.right.ask(VALUES) == VALUES
        for service in (cluster.left, cluster.right):
            with pytest.raises(RemoteError, match="a fault"):
                service.fail("a fault")
        for number in range(20):
            cluster.left.say(number)
            cluster.right.say(-number)
        eventually(lambda: len(cluster.left.lines()) == len(cluster.right.lines()) == 20, what="events are heard on both sides")
        assert sorted(cluster.right.lines()) == sorted(-number for number in cluster.left.lines()) == list(range(20))

    # The former release finds both through the registry of this one.
    asked = ["zmqservices", "call", "--timeout", "20", "--directory", new_url, "--namespace", "upgrade"]
    for service in ("left", "right"):
        call = start(former, "call", *asked, f"{service}.ask", '"answered"')
        assert (call.wait(), call.output().strip()) == (0, '"answered"')

    # Where DNS names them, a node of the former release is asked for what it can tell.
    with closing(DnsServer()) as server:
        server.set("upgrade.test", "A", "127.0.4.1", "127.0.4.2")
        url = f"dns://upgrade.test:{node_port}?server={server.address}"
        with ClusterRpcProxy({**QUICK, "DIRECTORY": url, "NAMESPACE": "upgrade"}, timeout=20) as cluster:
            assert cluster.left.ask(1) == cluster.right.ask(1) == 1

    if "commit" in str(former):
        return  # So near that it is enough to see that they understand each other.
    # The rest is upgraded under load. Events wait in a journal of the former release for a group that is away meanwhile.
    with ClusterRpcProxy({**QUICK, "DIRECTORY": old_url, "NAMESPACE": "upgrade"}, timeout=20) as cluster:
        nodes[1].terminate()
        assert nodes[1].wait() == 0
        for number in range(100, 105):
            cluster.left.say(number)
    load = Load({**QUICK, "DIRECTORY": old_url, "NAMESPACE": "upgrade"}, lambda remote, number: remote.left.home(), 8, pause=0.01)
    with load:
        load.wait_for(20)
        successor = start_node(this, "Left", "127.0.4.3")
        successor.has_said("Services started")
        nodes[0].terminate()
        assert nodes[0].wait() == 0
        upgraded = time.monotonic()
        load.wait_for(20, since=upgraded)
        start_node(this, "Right", "127.0.4.2").has_said("Services started")
    assert not load.failed(), told(load.failed())
    assert all(place.startswith(str(this)) for one in load.begun(upgraded) for place in one.value)
    with ClusterRpcProxy({**QUICK, "DIRECTORY": old_url, "NAMESPACE": "upgrade"}, timeout=20) as cluster:
        eventually(lambda: sorted(cluster.right.lines()) == list(range(100, 105)), what="the events that waited are handled")
