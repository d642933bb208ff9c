"""Clusters with journals for the tests of `zmqservices.cluster.events`."""

from tests.events.conftest import cluster_config, dispatch, dispatcher
from tests.fixtures import bound_on_time, cluster, connect, free_port, registry_url, serve
from tests.fixtures import cluster_config as cluster_without_journals

__all__ = [
    "bound_on_time",
    "cluster",
    "cluster_config",
    "cluster_without_journals",
    "connect",
    "dispatch",
    "dispatcher",
    "free_port",
    "registry_url",
    "serve",
]
