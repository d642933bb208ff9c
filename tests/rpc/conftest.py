"""Clusters and services for the tests of `zmqservices.rpc`."""

import pytest

from tests.fixtures import bound_on_time, cluster, cluster_config, connect, free_port, registry_url, serve
from zmqservices import exceptions
from zmqservices.exceptions import deserialize_to_instance

__all__ = ["bound_on_time", "cluster", "cluster_config", "connect", "free_port", "register", "registry_url", "serve"]


@pytest.fixture
def register(monkeypatch):
    """Classes that are known to callers until the test ends."""
    monkeypatch.setattr(exceptions, "registry", dict(exceptions.registry))
    return deserialize_to_instance
