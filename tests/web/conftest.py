"""Fixtures of the tests of HTTP and WebSockets: services that listen on a free port, and clients on gevent's sockets."""

import gevent
import pytest

from tests.fixtures import free_port
from tests.web.stage import Web
from zmqservices.containers import ServiceContainer

__all__ = ["free_port"]


@pytest.fixture(autouse=True)
def bound_on_time():
    """No test of this folder takes longer than this, whatever it waits for."""
    with gevent.Timeout(120):  # Below the time of pytest, which ends the whole run.
        yield


@pytest.fixture
def serve():
    """`serve(Service, max_workers=1)`: a started container; `web(container)` speaks to it. Killed after the test."""
    containers, webs = [], []

    def start(service_cls, **settings):
        container = ServiceContainer(service_cls, {"WEB_SERVER_ADDRESS": "127.0.0.1:0", **settings})
        containers.append(container)
        container.start()
        webs.append(Web(container))
        return webs[-1]

    yield start
    gevent.joinall([gevent.spawn(container.kill) for container in containers], raise_error=True)
    for web in webs:
        web.close()
