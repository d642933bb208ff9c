"""Services that find each other by a registry, or by etcd, which holds locks."""

import itertools

import pytest

from tests.fixtures import bound_on_time, connect, registry_url, serve

__all__ = ["bound_on_time", "connect", "registry_url", "serve"]

_namespaces = itertools.count(1)


@pytest.fixture(params=["registry", "etcd"])
def cluster_config(request):
    """Settings by which services of one test find each other, and nobody else."""
    url = request.getfixturevalue("registry_url") if request.param == "registry" else request.getfixturevalue("etcd").url
    return {"DIRECTORY": url, "NAMESPACE": f"leadership-{next(_namespaces)}", "rpc_timeout": 10.0}
