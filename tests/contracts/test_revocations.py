"""How a list of revoked certificates travels, whatever keeps the directory: one process is given the file, the others learn."""

import base64
import itertools
import json
import urllib.error
from contextlib import closing, contextmanager

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from discovery import open_directory
from discovery.security.authority import Authority
from discovery.security.keys import Keys
from discovery.security.renewal import learn, lists_of
from discovery.security.revocations import Revocations
from tests.discovery.engine_servers import CONSULS
from tests.discovery.stage import eventually, registries

_prefixes = itertools.count()


class Store:
    """What a stranger sees and does who may write in an engine. `server` is a server of its kind."""

    #: Where the lists stand.
    place = "/{prefix}/@revoked/"

    def __init__(self, server):
        self._server = server
        self._prefix = f"revocations/{next(_prefixes)}"
        self.url = f"{server.url}/{self._prefix}"
        self._root = self.place.format(prefix=self._prefix)


class EtcdStore(Store):
    """In etcd."""

    def lists(self):
        """All that stands in the place of lists."""
        end = self._root[:-1] + "0"
        answer = self._ask("range", key=self._root, range_end=end)
        return [base64.b64decode(item["value"]) for item in answer.get("kvs", ())]

    def replace(self, authority, signed):
        self._ask("put", key=self._root + authority.hex(), value=signed)

    def empty(self):
        """It loses what it held."""
        self._server.kill()
        self._server.forget()
        self._server.start()

    def _ask(self, what, **fields):
        raw = {name: value if isinstance(value, bytes) else value.encode() for name, value in fields.items()}
        body = {name: base64.b64encode(value).decode() for name, value in raw.items()}
        return json.loads(self._server.call(f"/v3/kv/{what}", json.dumps(body)))


class ConsulStore(Store):
    """In Consul."""

    place = "/v1/kv/{prefix}/%40revoked/"

    def lists(self):
        try:
            found = json.loads(self._server.call("GET", f"{self._root}?recurse"))
        except urllib.error.HTTPError:
            return []
        return [base64.b64decode(item["Value"]) for item in found]

    def replace(self, authority, signed):
        self._server.call("PUT", self._root + authority.hex(), signed)

    def empty(self):
        self._server.kill()
        self._server.start()


class ZooKeeperStore(Store):
    """In ZooKeeper."""

    place = "/{prefix}/@revoked"

    @contextmanager
    def _client(self):
        client = KazooClient(self._server.host)
        client.start(timeout=30)
        try:
            yield client
        finally:
            client.stop()
            client.close()

    def lists(self):
        with self._client() as client:
            try:
                return [client.get(f"{self._root}/{name}")[0] for name in client.get_children(self._root)]
            except NoNodeError:
                return []

    def replace(self, authority, signed):
        with self._client() as client:
            for name in client.get_children(self._root):
                client.delete(f"{self._root}/{name}")
            client.create(f"{self._root}/{authority.hex()};7.strange", signed)

    def empty(self):
        with self._client() as client:
            client.delete(f"/{self._prefix}", recursive=True)


STORES = {"etcd": EtcdStore, "consul": ConsulStore, "real_consul": ConsulStore, "zookeeper": ZooKeeperStore}


@pytest.fixture(params=["etcd", "zookeeper", *CONSULS])
def store(request):
    return STORES[request.param](request.getfixturevalue(request.param))


class Closed:
    """An authority, and processes with keys of their own. `open(name)` is the directory of one, which has read it."""

    def __init__(self, folder):
        self.authority = Authority.create(folder)
        self.folder = folder
        self._directories = []

    def keys(self, name):
        return Keys.read(self.authority.issue(name, {"calls": ("*",)}))

    def open(self, url, keys, namespace="default"):
        directory = open_directory(url, ttl=1.0, services=(), keys=keys, namespace=namespace)
        self._directories.append(directory)
        directory.start()
        assert directory.wait_ready(30)
        return directory

    def revoke(self, name):
        """The newest list."""
        self.authority.revoke(name)
        return self.authority.revocations().signed

    def close(self):
        for directory in self._directories:
            directory.stop()


@pytest.fixture
def closed(tmp_path):
    with closing(Closed(tmp_path / "authority")) as made:
        yield made


@pytest.fixture
def registry(closed):
    with registries(ttl=1.0, keys=Keys.read(closed.folder / "registry")) as (server,):
        yield server


@pytest.fixture(params=["registry", "etcd", "zookeeper", *CONSULS])
def url(request):
    found = request.getfixturevalue(request.param)
    return found.url if request.param == "registry" else STORES[request.param](found).url


def test_a_list_that_one_process_has_reaches_all_others(closed, url):
    first, second, late, thief = (closed.keys(name) for name in ("first", "second", "late", "thief"))
    closed.open(url, first)
    # Certificates hold in all namespaces, and so do lists of those that are void.
    closed.open(url, second, "other")
    signed = closed.revoke("thief")
    assert not second.refusal_of(thief.signed)

    learn(first, [signed])

    eventually(lambda: "was revoked" in second.refusal_of(thief.signed))
    closed.open(url, late)
    eventually(lambda: lists_of(late) == [signed])
    # It is written to the folder after it is believed.
    eventually(lambda: lists_of(Keys.read(second.folder)) == [signed])


def test_an_older_list_replaces_no_newer_one(closed, store):
    first, second, thief = closed.keys("first"), closed.keys("second"), closed.keys("thief")
    closed.keys("other")
    closed.open(store.url, first)
    closed.open(store.url, second)
    older, newer = closed.revoke("other"), closed.revoke("thief")
    learn(first, [newer])
    eventually(lambda: lists_of(second) == [newer])

    store.replace(closed.authority.public_key, older)

    eventually(lambda: store.lists() == [newer])
    assert second.refusal_of(thief.signed) and lists_of(first) == lists_of(second) == [newer]


def test_a_forged_list_is_refused_and_told_once_and_the_right_one_comes_back(closed, store, caplog):
    keys = closed.keys("first")
    closed.keys("thief")
    closed.open(store.url, keys)
    signed = closed.revoke("thief")
    learn(keys, [signed])
    eventually(lambda: store.lists() == [signed])
    empty = Revocations(closed.authority.public_key, 9).with_serials(set(), Authority.create(closed.folder / "stranger")._keys)
    forged = empty.signed.replace(Authority(closed.folder / "stranger").public_key, closed.authority.public_key)

    for _ in range(3):
        store.replace(closed.authority.public_key, forged)
        eventually(lambda: store.lists() == [signed])

    assert lists_of(keys) == [signed]
    [line] = [text for text in caplog.messages if "passed over a list" in text]
    assert line.endswith("the signature of a list of revoked certificates is wrong") and store.url in line


def test_an_engine_that_lost_everything_gets_the_list_back(closed, store):
    keys = closed.keys("first")
    closed.keys("thief")
    closed.open(store.url, keys)
    signed = closed.revoke("thief")
    learn(keys, [signed])
    eventually(lambda: store.lists() == [signed])

    store.empty()

    eventually(lambda: store.lists() == [signed])


def test_who_is_of_no_closed_cluster_passes_over_the_lists(closed, store):
    keys = closed.keys("first")
    closed.keys("thief")
    closed.open(store.url, keys)
    learn(keys, [closed.revoke("thief")])
    eventually(store.lists)

    for namespace in ("default", None):
        directory = closed.open(store.url, None, namespace)
        assert not directory.view().records and not directory.view().notes
