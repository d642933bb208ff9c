"""What the tests of providers share: servers for the whole run, and a bound on time."""

import json
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
from sqlalchemy import create_engine, select

from tests.contrib import servers
from tests.contrib.shop import Base, Mail, Mails
from zmqservices.containers import ServiceContainer
from zmqservices.contrib.outbox import outbox_table
from zmqservices.standalone.rpc import ServiceRpcProxy

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def bound_on_time():
    """No test of this folder takes longer than this, whatever it waits for."""
    with gevent.Timeout(120):
        yield


@pytest.fixture(scope="session")
def redis_url():
    """A Redis for all tests."""
    with servers.redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def memcached_address():
    """A memcached for all tests."""
    with servers.memcached() as address:
        yield address


@pytest.fixture(scope="session")
def postgresql_url():
    """A PostgreSQL for all tests."""
    with servers.postgresql() as url:
        yield url


@pytest.fixture
def serve(container_factory, cluster_config):
    """`serve(Service, SETTING=...)`: a started container."""

    def start(service_cls, **settings):
        container = container_factory(service_cls, {**cluster_config, **settings})
        container.start()
        return container

    return start


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request, cluster_config, tmp_path):
    """A `Shop` with an empty database."""
    if request.param == "sqlite":
        uri = f"sqlite:///{tmp_path}/shop.db"
    else:
        uri = request.getfixturevalue("postgresql_url")
    names = ("orders", "mails", "listens")
    settings = {
        **cluster_config,
        "DB_URIS": {f"{name}:Base": uri for name in names},
        "JOURNAL_FOLDER": str(tmp_path / "journals"),
        "events_backoff": 0.01,
    }
    shop = Shop(settings, uri)
    yield shop
    shop.close()


class Shop:
    """Services of tests/contrib/shop.py on one database."""

    def __init__(self, settings, uri):
        self.settings = settings
        self.engine = create_engine(uri)
        Base.metadata.drop_all(self.engine)
        Base.metadata.create_all(self.engine)
        Mails.told.clear()
        Mails.failing.clear()
        self._containers = []
        self._clients = []

    def start(self, *services, elsewhere=False, **settings):
        """Start containers, with a node of their own where they are `elsewhere`."""
        config = {**self.settings, **settings}
        if elsewhere:
            config["HEARTBEAT"] = 2.0 + len(self._containers) / 1000
        containers = [ServiceContainer(service, config) for service in services]
        for container in containers:
            self._containers.append(container)
            container.start()
        return containers

    @property
    def orders(self):
        """A proxy of the service."""
        if not self._clients:
            self._clients.append(ServiceRpcProxy("orders", self.settings, timeout=60))
            self._started = self._clients[0].start()
        return self._started

    def mails(self):
        """The orders of which there is a mail."""
        with self.engine.connect() as connection:
            return list(connection.scalars(select(Mail.order).order_by(Mail.id)))

    def outbox(self):
        """The rows that are not relayed yet."""
        with self.engine.connect() as connection:
            return connection.execute(select(outbox_table(Base.metadata))).all()

    def run_dying(self, moment):
        """Run the program of tests/contrib/shop.py to its end."""
        command = [sys.executable, "-m", "tests.contrib.shop", json.dumps(self.settings), moment]
        options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 40}
        return gevent.get_hub().threadpool.apply(subprocess.run, (command,), options)

    def close(self):
        for client in self._clients:
            client.stop()
        gevent.joinall([gevent.spawn(container.kill) for container in self._containers], raise_error=True)
        self.engine.dispose()
