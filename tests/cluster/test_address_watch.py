"""The address at which a node listens and is reached follows changes of its host's address."""

import pytest

import discovery
from zmqservices.cluster.address_watch import AddressWatch
from zmqservices.cluster.node_addresses import Hosts, NodeAddresses
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import ConfigurationError
from zmqservices.transport import addresses


class MovableNode:
    def __init__(self):
        self.done = []
        self.cannot_listen_at = None

    def listen_at(self, host):
        if host == self.cannot_listen_at:
            raise ConfigurationError(f"cannot bind {host}")
        self.done.append(("listen", host))

    def move(self, former, host):
        self.done.append(("move", former, host))


@pytest.fixture
def node():
    return MovableNode()


@pytest.fixture
def watch(node):
    return AddressWatch(node, lambda: Hosts(None, None), 1.0)


def test_the_first_address_is_no_change(watch, node):
    watch.found(Hosts("10.0.0.5", "10.0.0.5"))
    watch.found(Hosts("10.0.0.5", "10.0.0.5"))

    assert node.done == []


def test_a_node_listens_at_a_new_address_before_it_announces_it(watch, node):
    watch.found(Hosts("10.0.0.5", "10.0.0.5"))
    watch.found(Hosts("10.0.0.6", "10.0.0.6"))
    watch.found(Hosts("10.0.0.6", "10.0.0.6"))

    assert node.done == [("listen", "10.0.0.6"), ("move", "10.0.0.5", "10.0.0.6")]


def test_without_a_route_nothing_changes(watch, node):
    watch.found(Hosts("10.0.0.5", "10.0.0.5"))
    watch.found(Hosts(None, None))
    watch.found(Hosts("10.0.0.6", "10.0.0.6"))

    assert node.done == [("listen", "10.0.0.6"), ("move", "10.0.0.5", "10.0.0.6")]


def test_a_node_that_started_without_a_network_leaves_loopback_once_there_is_one(watch, node):
    watch.found(Hosts(None, None))
    watch.found(Hosts("10.0.0.6", "10.0.0.6"))

    assert node.done == [("listen", "10.0.0.6"), ("move", "127.0.0.1", "10.0.0.6")]


def test_a_node_on_every_interface_only_changes_its_record(watch, node):
    watch.found(Hosts(None, "10.0.0.5"))
    watch.found(Hosts(None, "10.0.0.6"))

    assert node.done == [("move", "10.0.0.5", "10.0.0.6")]


def test_an_address_that_cannot_be_bound_is_not_announced_and_tried_again(watch, node):
    watch.found(Hosts("10.0.0.5", "10.0.0.5"))
    node.cannot_listen_at = "10.0.0.6"
    with pytest.raises(ConfigurationError):
        watch.found(Hosts("10.0.0.6", "10.0.0.6"))
    assert node.done == []

    node.cannot_listen_at = None
    watch.found(Hosts("10.0.0.6", "10.0.0.6"))

    assert node.done == [("listen", "10.0.0.6"), ("move", "10.0.0.5", "10.0.0.6")]


# --- which addresses there are -----------------------------------------------------------------------------


def node_addresses(monkeypatch, servers=(("10.0.0.9", 4190),), route="10.0.0.5", names=None, **settings):
    monkeypatch.setattr(addresses, "towards", lambda servers, ipv4_alone, network: route)
    monkeypatch.setattr(addresses, "resolve", lambda host, network: (names or {})[host])
    capabilities = discovery.Capabilities(servers=servers)
    return NodeAddresses(Settings.read({"DIRECTORY": "static:a=tcp://1.2.3.4:1", **settings}), capabilities)


def test_without_settings_the_route_to_the_directory_decides(monkeypatch):
    found = node_addresses(monkeypatch)

    assert found.may_change
    assert found.hosts() == Hosts("10.0.0.5", "10.0.0.5")


def test_on_every_interface_only_the_advertised_address_follows_the_route(monkeypatch):
    found = node_addresses(monkeypatch, BIND_ADDRESS="tcp://0.0.0.0:4000")

    assert found.may_change
    assert found.hosts() == Hosts(None, "10.0.0.5")


def test_names_are_looked_up_again(monkeypatch):
    names = {"me.test": "10.0.0.7", "nat.test": "192.0.2.1"}
    found = node_addresses(
        monkeypatch, names=names, BIND_ADDRESS="tcp://me.test:4000", ADVERTISE_ADDRESS="tcp://nat.test:14000"
    )

    assert found.may_change
    assert found.hosts() == Hosts("10.0.0.7", "192.0.2.1")


def test_behind_a_foreign_advertised_address_the_node_listens_at_its_own(monkeypatch):
    found = node_addresses(monkeypatch, names={"192.0.2.1": "192.0.2.1"}, ADVERTISE_ADDRESS="tcp://192.0.2.1:14000")

    assert found.may_change
    assert found.hosts() == Hosts("10.0.0.5", "192.0.2.1")


@pytest.mark.parametrize(
    ("servers", "settings"),
    [
        ((("127.0.0.1", 4190),), {}),
        ((), {}),
        ((("10.0.0.9", 4190),), {"BIND_ADDRESS": "tcp://10.0.0.5:4000"}),
        ((("10.0.0.9", 4190),), {"BIND_ADDRESS": "tcp://0.0.0.0:4000", "ADVERTISE_ADDRESS": "tcp://10.0.0.5:4000"}),
    ],
)
def test_addresses_that_cannot_change_are_not_watched(monkeypatch, servers, settings):
    assert not node_addresses(monkeypatch, servers, **settings).may_change


def test_a_link_local_address_is_not_announced(monkeypatch):
    assert node_addresses(monkeypatch, route="fe80::1").hosts() == Hosts("fe80::1", None)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("tcp://10.0.0.5:4000", "tcp://[fd00::6]:4000"),
        ("tcp://10.0.0.55:4000", "tcp://10.0.0.55:4000"),
        ("http://10.0.0.5:80", "http://10.0.0.5:80"),
        ("", ""),
    ],
)
def test_endpoints_of_the_former_host_move(endpoint, expected):
    assert addresses.moved(endpoint, "10.0.0.5", "fd00::6") == expected
