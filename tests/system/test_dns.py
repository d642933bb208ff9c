"""Services that only DNS names, each at its own address on this machine; the answers of DNS change under load."""

import json
import signal
import uuid

import dns.rcode
import pytest

from tests.discovery.dns_server import DnsServer
from tests.ports import free_port
from tests.system.clusters import QUICK, Cluster, Listing
from tests.system.load import Load, told
from tests.system.processes import eventually

NAME = "shop.default.svc.test"


class DnsCluster(Cluster):
    """A cluster without registries: its processes bind one port at addresses of their own, which `server` names."""

    def __init__(self, stage, **config):
        self.stage = stage
        self.namespace = f"test-{uuid.uuid4().hex[:12]}"
        self.local_port, self.ports, self.registries = None, [], []
        self.config = {**QUICK, **config}
        self.server = DnsServer()
        self.port = free_port()
        self.url = f"dns://{NAME}:{self.port}?server={self.server.address}"
        self.environment = {"ZMQSERVICES_DIRECTORY": self.url, "ZMQSERVICES_NAMESPACE": self.namespace}
        self.hosts = []
        self.name_hosts()
        self.listing = Listing(self.url, self.namespace)
        self._closers = [self.listing.close, self.server.close]

    def name_hosts(self, *hosts):
        """From now on DNS names these addresses."""
        self.hosts = list(hosts)
        self.server.set(NAME, "A", *hosts)

    def launch_at(self, host, target, **config):
        """A process at an address that DNS does not name yet."""
        return self.launch(target, BIND_ADDRESS=f"tcp://{host}:{self.port}", **config)

    def run_at(self, host, target, **config):
        """A process that DNS names; returns when it is listed."""
        process = self.launch_at(host, target, **config)
        self.name_hosts(*self.hosts, host)
        self.wait_listed(target, process)
        return process


@pytest.fixture
def new_cluster(stage):
    clusters = []

    def new(**config):
        clusters.append(DnsCluster(stage, **config))
        return clusters[-1]

    yield new
    for cluster in clusters:
        cluster.close()


def test_services_find_each_other_and_tools_find_them(new_cluster):
    cluster = new_cluster()
    maths = cluster.run_at("127.0.0.2", "maths")
    cluster.run_at("127.0.0.3", "relay")

    with cluster.client() as remote:
        assert remote.relay.add(2, 3) == 5
    call, listing, inspect, health = (
        cluster.command(*arguments)
        for arguments in (("call", "relay.add", "2", "3"), ("ls", "--json"), ("inspect", "maths", "--json"), ("health", "maths"))
    )
    assert (call.wait(), call.output().strip()) == (0, "5")
    assert listing.wait() == 0
    assert {one["service"]: one["up"] for one in json.loads(listing.output())} == {"maths": 1, "relay": 1}
    assert inspect.wait() == 0
    found = json.loads(inspect.output())
    # DNS knows an address; the node itself tells all the rest.
    (instance,) = found["instances"]
    assert instance["pid"] == maths.pid
    assert instance["addresses"] == {"rpc": f"tcp://127.0.0.2:{cluster.port}"}
    assert [name for name, one in found["methods"].items() if one["idempotent"]] == ["pause_again"]
    assert (health.wait(), "ok" in health.output()) == (0, True)


def test_a_service_without_a_fixed_port_is_refused_with_the_mend(new_cluster):
    cluster = new_cluster()
    for process in [cluster.launch("maths", **setting) for setting in ({}, {"BIND_ADDRESS": "tcp://127.0.0.2:0"})]:
        assert process.wait() != 0
        assert f"DIRECTORY is '{cluster.url}'" in process.output()
        assert "give BIND_ADDRESS that port, such as tcp://0.0.0.0:4000" in process.output()


def test_answers_that_change_under_load_lose_no_idempotent_call(new_cluster):
    cluster = new_cluster(max_workers=100)
    old = [cluster.run_at(f"127.0.1.{number}", "maths") for number in (1, 2)]

    with Load(cluster.client_config(), lambda remote, number: remote.maths.pause_again(0.01), greenlets=32) as load:
        load.wait_for(200)
        # Both pods are moved to other addresses. The first one leaves in good order, the second is killed.
        for number, (process, how) in enumerate(zip(old, (signal.SIGTERM, signal.SIGKILL), strict=True), 1):
            new = cluster.launch_at(f"127.0.2.{number}", "maths")
            cluster.name_hosts(*(host for host in cluster.hosts if host != f"127.0.1.{number}"), f"127.0.2.{number}")
            cluster.wait_listed("maths", new)
            process.popen.send_signal(how)
            eventually(lambda pid=new.pid: any(one.value == pid for one in load.outcomes), what="calls reach the new address")
        # Neither an answer without addresses nor a server that fails takes anybody away.
        cluster.name_hosts()
        asked = len(cluster.server.questions)
        eventually(lambda: len(cluster.server.questions) > asked + 2)
        cluster.server.rcode = dns.rcode.SERVFAIL
        load.wait_for_more(500)

    assert not load.failed(), told(load.failed())
    last = {one.value for one in load.outcomes[-100:]}
    assert last and not last & {process.pid for process in old}


def test_events_reach_handlers_and_wait_in_the_publishers_journal(new_cluster, tallies, tmp_path):
    cluster = new_cluster(TALLY=str(tallies.folder), JOURNAL_FOLDER=str(tmp_path / "journals"))
    cluster.run_at("127.0.0.2", "orders")
    mails = cluster.run_at("127.0.0.3", "mails")

    def publish(first):
        with cluster.client() as remote:
            remote.orders.publish(first, 50)

    def knows_the_group():
        with cluster.client() as remote:
            return any(journal["groups"] for journal in remote["events:orders"].stats()["journals"])

    # DNS lists no groups: a publisher keeps events for one that it has heard of, and nothing that came before.
    eventually(knows_the_group, what="the publisher knows the group")
    publish(0)
    tallies.wait_until_handled(50)
    mails.terminate()
    assert mails.wait() == 0
    # The group is away; its events wait where they were published.
    publish(50)
    cluster.run_at("127.0.0.4", "mails")

    tallies.wait_until_handled(100)
    assert not tallies.duplicates()
