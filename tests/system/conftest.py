"""Real processes on this machine: each test has its own cluster, and shows the output of the processes when it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gevent._hub_local import get_hub_if_exists

from tests.ports import free_port
from tests.system.clusters import QUICK, Cluster, registry
from tests.system.processes import Guardian, Stage
from tests.system.tallies import Tallies

HERE = Path(__file__).parent
_stages = pytest.StashKey[Stage]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.failed:
        for node in item.listchain():
            if _stages in node.stash:
                report.sections += [(f"output of {name}", text) for name, text in node.stash[_stages].logs()]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Run each test in a thread of its own: one without a hub, whatever other tests have left on the main one."""
    test, failures = pyfuncitem.obj, []

    def run(**arguments: Any) -> None:
        try:
            test(**arguments)
        except BaseException as exc:
            failures.append(exc)
        finally:
            if get_hub_if_exists() is not None:
                get_hub_if_exists().destroy()

    def start(**arguments: Any) -> None:
        thread = threading.Thread(target=run, kwargs=arguments, name=pyfuncitem.name)
        thread.start()
        thread.join()
        if failures:
            raise failures.pop()

    pyfuncitem.obj = start


@pytest.fixture(scope="session")
def guardian() -> Iterator[Guardian]:
    guardian = Guardian(forks=True)
    yield guardian
    guardian.close()


@contextmanager
def staged(guardian: Guardian, folder: Path, node: pytest.Item | pytest.Collector) -> Iterator[Stage]:
    stage = Stage(guardian, folder)
    node.stash[_stages] = stage
    try:
        yield stage
    finally:
        stage.end()


@pytest.fixture
def stage(guardian: Guardian, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Starts processes that end with the test."""
    with staged(guardian, tmp_path, request.node) as stage:
        yield stage


@pytest.fixture
def make_cluster(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cluster]]:
    """Clusters that end with the test: `registries=0` is one that finds itself by the machine's own directory."""
    clusters: list[Cluster] = []

    def make(registries: int = 1, port: int | None = None, url: str | None = None, **config: Any) -> Cluster:
        cluster = Cluster(stage, registries, config, port, url)
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


@pytest.fixture(scope="session")
def shared_port(guardian: Guardian, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[int]:
    """Where a registry listens for all clusters in which nobody dies: each has a namespace of its own."""
    with staged(guardian, tmp_path_factory.mktemp("shared"), request.session) as stage:
        port = free_port()
        registry(stage, port, QUICK["DIRECTORY_TTL"])
        yield port


@pytest.fixture
def peaceful_cluster(make_cluster: Callable[..., Cluster], shared_port: int) -> Cluster:
    """A cluster in which no process is killed or frozen: many that fall silent at once look like the registry's own fault."""
    return make_cluster(port=shared_port)


@pytest.fixture
def tallies(tmp_path: Path) -> Tallies:
    """A folder in which services write down what they dispatched and handled."""
    return Tallies(tmp_path / "tallies")


@pytest.fixture
def event_cluster(make_cluster: Callable[..., Cluster], tallies: Tallies, tmp_path: Path) -> Cluster:
    """A cluster whose services count events; failed ones come again soon."""
    return make_cluster(TALLY=str(tallies.folder), JOURNAL_FOLDER=str(tmp_path / "journals"), events_backoff=0.05)


@pytest.fixture(scope="module")
def make_lasting_cluster(
    guardian: Guardian, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Cluster]]:
    """Clusters for all tests of a module, for those that leave them as they found them."""
    with staged(guardian, tmp_path_factory.mktemp("lasting"), request.node) as stage:
        clusters: list[Cluster] = []

        def make(**config: Any) -> Cluster:
            clusters.append(Cluster(stage, config=config))
            return clusters[-1]

        yield make
        for cluster in clusters:
            cluster.close()


@pytest.fixture(scope="module")
def lasting_cluster(make_lasting_cluster: Callable[..., Cluster]) -> Cluster:
    """One of these, with the usual settings."""
    return make_lasting_cluster()
