"""A network between services of one process, and what happens to it."""

import time

import gevent
import pytest

from zmqservices.exceptions import MaybeExecuted, RemoteUnavailable, RpcTimeout, UnknownService
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.standalone.rpc import ClusterRpcProxy


class Stock:
    name = "stock"

    @rpc
    def count(self, item):
        return len(item)

    @rpc
    def echo(self, value):
        return value


class Orders:
    name = "orders"
    stock = RpcProxy("stock")

    @rpc
    def place(self, item):
        return self.stock.count(item)


@pytest.fixture
def settings():
    """What the hosts are set to besides."""
    return {}


@pytest.fixture
def hosts(container_factory, network, settings):
    """Stock and orders on hosts of their own, and the connection of a client on a third."""
    for service_cls in (Stock, Orders):
        container_factory(service_cls, network.host(service_cls.name, **settings)).start()
    with ClusterRpcProxy(network.host("client", **settings)) as cluster:
        assert cluster.orders.place("tea") == 3
        assert cluster.stock.count("tea") == 3
        yield cluster


def until(claim):
    while not claim():
        gevent.sleep(0.005)


def test_calls_go_through_it(hosts):
    assert hosts.orders.place("coffee") == 6


def test_large_values_go_through_it(hosts):
    value = bytes(3_000_000)

    assert hosts.stock.echo(value) == value


def test_each_pair_of_hosts_has_a_wire_of_its_own(hosts, network):
    network.delay("orders", "stock", 0.1)

    def seconds(call):
        began = time.monotonic()
        assert call("tea") == 3
        return time.monotonic() - began

    assert seconds(hosts.orders.place) >= 0.2
    # The quickest of some: the machine may be busy.
    assert min(seconds(hosts.stock.count) for _ in range(10)) < 0.2


def test_delayed_bytes_keep_their_order(hosts, network):
    network.delay("client", "stock", 0.02)
    calls = [hosts.stock.echo.call_async(number) for number in range(100)]
    network.delay("client", "stock", 0.0)
    calls += [hosts.stock.echo.call_async(number) for number in range(100, 200)]

    assert [call.result() for call in calls] == list(range(200))


def test_a_dropped_wire_carries_nothing_and_tells_nobody(hosts, network):
    network.drop("orders", "stock")

    with pytest.raises(RpcTimeout):
        hosts.orders.place.with_timeout(0.1)("tea")
    assert hosts.stock.count("tea") == 3


def test_what_was_dropped_for_a_moment_arrives_when_it_is_healed(hosts, network):
    network.drop("client", "stock")
    call = hosts.stock.count.call_async("tea")
    gevent.spawn_later(0.02, network.heal)

    assert call.result() == 3


@pytest.mark.parametrize("settings", [{"HEARTBEAT": 0.2}])
def test_the_heartbeat_gives_a_dropped_wire_up(hosts, network):
    network.drop("client", "stock")

    with pytest.raises(RemoteUnavailable):
        hosts.stock.count("tea")

    network.heal()
    until(lambda: _works(hosts))


def test_a_cut_wire_resets_calls_under_way(hosts, network):
    network.delay("client", "stock", 0.2)
    call = hosts.stock.count.call_async("tea")

    network.cut("client", "stock")

    with pytest.raises(MaybeExecuted):
        call.result()


def test_a_cut_wire_takes_no_new_connection_until_it_is_healed(hosts, network):
    network.cut("client", "stock")
    with pytest.raises(RemoteUnavailable):
        hosts.stock.count.with_timeout(0.3)("tea")

    network.heal()

    until(lambda: _works(hosts))


def _works(hosts):
    try:
        return hosts.stock.count.with_timeout(0.5)("tea") == 3
    except (RemoteUnavailable, RpcTimeout):
        return False


def test_a_split_parts_the_groups_and_nobody_else(hosts, network):
    network.split({"stock"}, {"orders", "directory"})

    assert hosts.stock.count("tea") == 3
    with pytest.raises((RpcTimeout, RemoteUnavailable)):
        hosts.orders.place.with_timeout(0.2)("tea")


def test_heal_takes_the_hosts_that_it_is_for(hosts, network):
    network.drop("client", "stock")
    network.drop("client", "orders")

    network.heal("client", "stock")

    assert hosts.stock.count("tea") == 3
    with pytest.raises((RpcTimeout, RemoteUnavailable)):
        hosts.orders.place.with_timeout(0.2)("tea")


def test_who_is_cut_off_from_the_directory_goes_on_with_what_it_knows(hosts, network):
    network.cut("client", "directory")

    assert hosts.stock.count("tea") == 3


def test_who_comes_while_cut_off_from_the_directory_knows_nobody(container_factory, network):
    container_factory(Stock, network.host("stock")).start()
    network.host("late")
    network.cut("late", "directory")

    with ClusterRpcProxy(network.host("late", rpc_wait_for_service=0.1)) as cluster:
        with pytest.raises(UnknownService):
            cluster.stock.count("tea")
        network.heal()
        until(lambda: _knows(cluster))


def _knows(cluster):
    try:
        return cluster.stock.count("tea") == 3
    except RemoteUnavailable:
        return False


def test_services_of_one_host_are_not_parted(container_factory, network):
    for service_cls in (Stock, Orders):
        container_factory(service_cls, network.host("both")).start()

    with ClusterRpcProxy(network.host("client")) as cluster:
        assert cluster.orders.place("tea") == 3
        network.split({"both"}, {"directory"})
        assert cluster.orders.place("tea") == 3


def test_a_name_that_is_no_host_is_refused(network):
    network.host("orders")

    with pytest.raises(ValueError, match="'order' is no host of this network; it has directory, orders"):
        network.drop("order", "directory")
