"""A closed cluster: an authority, a registry with keys, and settings for each node that a test issues."""

import pytest

from discovery.security.authority import Authority
from discovery.security.keys import Keys
from discovery.server.registry_server import RegistryServer
from zmqservices import config


class Cluster:
    """`node(name, serves=..., calls=...)` are the settings of a process with a certificate of its own."""

    def __init__(self, folder):
        self.authority = Authority.create(folder)
        self.folder = folder
        self.registry = RegistryServer("tcp://127.0.0.1:0", ttl=1.0, keys=Keys.read(folder / "registry"))
        self.registry.start()
        self.registry.wait_bound(60.0)
        self._count = 0

    def keys(self, name="node", days=1, **permissions):
        """The folder of a new node."""
        self._count += 1
        lists = {verb: (names,) if isinstance(names, str) else tuple(names) for verb, names in permissions.items()}
        lists.setdefault("registers", lists.get("serves", ()))
        return self.authority.issue(f"{name}-{self._count}", lists, days)

    def settings(self, folder=None, **more):
        settings = {
            "DIRECTORY": self.registry.url, "DIRECTORY_CACHE": "none", "HEARTBEAT": 0.5, "rpc_timeout": 10,
            "rpc_wait_for_service": 3, **more,
        }  # fmt: skip
        return settings if folder is None else {**settings, "SECURITY": str(folder)}

    def node(self, name="node", **permissions):
        return self.settings(self.keys(name, **permissions))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("keys") / "cluster")
    yield made
    made.registry.stop(blocking=True)


@pytest.fixture
def start(container_factory, tmp_path):
    """Start a service as the node whose settings these are."""

    def start(service, settings):
        settings = {"JOURNAL_FOLDER": str(tmp_path / "journals"), **settings}
        container = container_factory(service, settings)
        container.start()
        return container

    return start


@pytest.fixture(autouse=True)
def no_settings():
    with config.patch({}):
        yield
