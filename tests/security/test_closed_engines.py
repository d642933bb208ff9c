"""A closed cluster whose directory is an engine: services find each other by records that nodes signed."""

import pytest
from gevent.event import Event

from tests.discovery.engine_servers import EtcdServer
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    yield server
    server.close()


def test_services_call_and_hear_each_other_over_etcd(cluster, etcd, start):
    heard, payloads = Event(), []

    class Orders:
        name = "orders"
        dispatch = EventDispatcher()

        @rpc
        def pay(self, number):
            self.dispatch("paid", number)
            return number + 1

    class Mails:
        name = "mails"

        @event_handler("orders", "paid")
        def send(self, payload):
            payloads.append(payload)
            heard.set()

    where = {"DIRECTORY": f"{etcd.url}/closed"}
    mails = start(Mails, {**cluster.node("mails", serves="mails", handles="orders"), **where})
    orders = cluster.node("orders", serves="orders", publishes="orders", registers=("orders", "events:*"))
    container = start(Orders, {**orders, **where})

    with ServiceRpcProxy("orders", {**cluster.node("client", calls="orders"), **where}) as client:
        assert client.pay(7) == 8

    assert heard.wait(15) and set(payloads) == {7}
    # The id says whose instance it is, wherever it is named.
    ids = {container.instance_id, mails.instance_id}
    assert all(len(one.partition("-")[0]) == 16 for one in ids) and len(ids) == 2
