"""Servers for the shop, for the whole run."""

import pytest

from tests.contrib import servers


@pytest.fixture(scope="session")
def redis_url():
    """A Redis for all tests."""
    with servers.redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_url():
    """A PostgreSQL for all tests."""
    with servers.postgresql() as url:
        yield url
