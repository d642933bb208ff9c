"""Real processes on this machine: each test has a cluster of its own, and sees what it wrote when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.clusters import Cluster
from tests.system.processes import Guardian, Stage

HERE = Path(__file__).parent
_stages = pytest.StashKey[Stage]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    stage = item.stash.get(_stages, None)
    if stage is not None and report.failed:
        report.sections += [(f"output of {name}", text) for name, text in stage.logs()]
    return report


@pytest.fixture(scope="session")
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    yield guardian
    guardian.close()


@pytest.fixture
def stage(guardian: Guardian, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Starts processes that end with the test."""
    stage = Stage(guardian, tmp_path)
    request.node.stash[_stages] = stage
    yield stage
    stage.end()


@pytest.fixture
def make_cluster(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cluster]]:
    """Clusters that end with the test: `registries=0` is one that finds itself by the machine's own directory."""
    clusters: list[Cluster] = []

    def make(registries: int = 1, **config: Any) -> Cluster:
        cluster = Cluster(stage, registries, config)
        clusters.append(cluster)
        if cluster.local_port is not None:
            # For clients in this process: the machine's well-known port is nobody's in a test.
            monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(cluster.local_port))
        return cluster

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster with one registry."""
    return make_cluster()
