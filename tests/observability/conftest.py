"""Clusters, services and a probe that notes all that it hears."""

import pytest

from tests.events.conftest import cluster_config, cluster_without_journals
from tests.fixtures import bound_on_time, cluster, connect, free_port, registry_url, serve
from tests.observability.stage import Notes
from zmqservices.probes import attached

__all__ = [
    "bound_on_time", "cluster", "cluster_config", "cluster_without_journals", "connect", "free_port", "registry_url", "serve",
]  # fmt: skip


@pytest.fixture
def notes():
    """A probe that is attached to the process and notes every hook."""
    notes = Notes()
    with attached(notes):
        yield notes
