"""Clusters in this thread, and dashboards of them."""

import json

import pytest

from tests.fixtures import bound_on_time, cluster_config, registry_url, serve
from tests.web.stage import Connection
from zmqservices.dashboard.server import Dashboard

__all__ = ["bound_on_time", "cluster_config", "registry_url", "serve"]


class Served:
    """A dashboard that runs, seen from outside."""

    def __init__(self, dashboard):
        self.dashboard = dashboard
        self.url = dashboard.start()
        self.host = self.url.removeprefix("http://").rstrip("/")

    def ask(self, method, path, body=None, **headers):
        """One request. The names of headers have `_` for `-`."""
        host, _, port = self.host.rpartition(":")
        connection = Connection(host, int(port))
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            return connection.ask(method, path, None if body is None else json.dumps(body), {"Host": self.host, **told})
        finally:
            connection.close()

    @property
    def picture(self):
        """The next picture that is made."""
        collector = self.dashboard.collector
        return json.loads(collector.next_picture(collector.number, 30))


@pytest.fixture
def dashboard(cluster_config):
    """Start a dashboard of this test's cluster; it is stopped in the end."""
    started = []

    def start(**options):
        served = Served(Dashboard(cluster_config, **options))
        started.append(served)
        return served

    yield start
    for served in started:
        served.dashboard.stop()
