"""What the tests of providers share: servers for the whole run, and a bound on time."""

import gevent
import pytest

from tests.contrib import servers


@pytest.fixture(autouse=True)
def bound_on_time():
    """No test of this folder takes longer than this, whatever it waits for."""
    with gevent.Timeout(50):
        yield


@pytest.fixture(scope="session")
def redis_url():
    """A Redis for all tests."""
    with servers.redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def memcached_address():
    """A memcached for all tests."""
    with servers.memcached() as address:
        yield address


@pytest.fixture(scope="session")
def postgresql_url():
    """A PostgreSQL for all tests."""
    with servers.postgresql() as url:
        yield url


@pytest.fixture
def serve(container_factory, cluster_config):
    """`serve(Service, SETTING=...)`: a started container."""

    def start(service_cls, **settings):
        container = container_factory(service_cls, {**cluster_config, **settings})
        container.start()
        return container

    return start
