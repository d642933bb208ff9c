"""Clusters and services for the tests of `zmqservices.rpc`."""

from tests.fixtures import bound_on_time, cluster, cluster_config, connect, free_port, registry_url, serve

__all__ = ["bound_on_time", "cluster", "cluster_config", "connect", "free_port", "registry_url", "serve"]
