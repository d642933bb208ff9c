"""Fixtures of the tests of zmqservices.hosting: containers that are cleaned up, and a time limit for each test."""

import gevent
import pytest

from zmqservices.containers import ServiceContainer


@pytest.fixture(autouse=True)
def bound_on_time():
    """No test of this folder takes longer than this, whatever it waits for."""
    with gevent.Timeout(120):
        yield


@pytest.fixture
def make_container():
    """Containers that are killed at the end of the test, if they are not over by then."""
    containers = []

    def make(service_cls, config=None, start=True, container_cls=ServiceContainer):
        container = container_cls(service_cls, {} if config is None else config)
        containers.append(container)
        if start:
            container.start()
        return container

    yield make
    for container in containers:
        container.kill()
