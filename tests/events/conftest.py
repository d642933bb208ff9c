"""What the tests of events share: clusters and services as in the tests of calls, and journals of the test's own."""

import pytest

from tests.fixtures import bound_on_time, cluster, connect, free_port, registry_url, serve  # noqa: F401 (fixtures)
from tests.fixtures import cluster_config as cluster_without_journals  # noqa: F401
from zmqservices.standalone.events import event_dispatcher


@pytest.fixture
def cluster_config(cluster_without_journals, tmp_path):  # noqa: F811
    """Settings by which the services of one test find each other; retries come soon."""
    return {**cluster_without_journals, "JOURNAL_FOLDER": str(tmp_path / "journals"), "events_backoff": 0.01, "HEARTBEAT": 0.5}


@pytest.fixture
def dispatcher(cluster_config):
    """`dispatcher(reliable=False)`: a standalone dispatcher, stopped after the test."""
    dispatchers = []

    def make(**options):
        settings = {**cluster_config, **options.pop("settings", {})}
        dispatchers.append(event_dispatcher(settings, **options))
        return dispatchers[-1]

    yield make
    for one in dispatchers:
        one.stop()


@pytest.fixture
def dispatch(dispatcher):
    """A standalone dispatcher without further settings."""
    return dispatcher()
