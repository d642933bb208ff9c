"""What the tests of calls share: a registry, a namespace for each test, services and clients that are cleaned up."""

import itertools

import gevent
import pytest

from discovery.server.registry_server import RegistryServer
from tests import ports
from zmqservices.containers import ServiceContainer
from zmqservices.standalone.rpc import ClusterRpcProxy

_namespaces = itertools.count(1)


@pytest.fixture(autouse=True)
def bound_on_time():
    """No test of this folder takes longer than this, whatever it waits for."""
    with gevent.Timeout(120):
        yield


@pytest.fixture(scope="session")
def registry_url():
    """One registry for all tests, on a port of its own; each test has a namespace of its own."""
    registry = RegistryServer("tcp://127.0.0.1:0")
    registry.start()
    registry.wait_bound(30)
    yield registry.url
    registry.stop()


@pytest.fixture
def cluster_config(registry_url):
    """Settings by which services and clients of one test find each other, and nobody else."""
    patience = {"rpc_timeout": 30.0, "rpc_wait_for_service": 10.0}
    return {"DIRECTORY": registry_url, "NAMESPACE": f"test-{next(_namespaces)}", **patience}


@pytest.fixture
def serve(cluster_config):
    """`serve(Maths, max_workers=1)`: a started container with these settings besides. Stopped after the test.

    `elsewhere=True` gives it a node of its own, as another process would.
    """
    containers = []
    nodes = itertools.count(1)

    def start(service_cls, elsewhere=False, **settings):
        config = {**cluster_config, **settings}
        if elsewhere:
            config["HEARTBEAT"] = 2.0 + next(nodes) / 1000
        container = ServiceContainer(service_cls, config)
        containers.append(container)
        container.start()
        return container

    yield start
    gevent.joinall([gevent.spawn(container.kill) for container in containers], raise_error=True)


@pytest.fixture
def connect(cluster_config):
    """`connect(timeout=1, serializer="json")`: a standalone proxy of the whole cluster, stopped after the test."""
    clients = []

    def start(context_data=None, timeout=None, **settings):
        client = ClusterRpcProxy({**cluster_config, **settings}, context_data=context_data, timeout=timeout)
        clients.append(client)
        return client.start()

    yield start
    for client in clients:
        client.stop()


@pytest.fixture
def cluster(connect):
    """A standalone proxy without further settings."""
    return connect()


@pytest.fixture
def free_port():
    """A loopback port that nobody has."""
    return ports.free_port()
