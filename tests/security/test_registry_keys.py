"""Registries that get other keys and certificates, one after the other, while clients go on."""

import shutil
import time
from contextlib import closing, contextmanager

import pytest

from discovery import DirectoryConfigurationError, DirectoryError, open_directory
from discovery.client.key_choice import KeyChoice
from discovery.exceptions import SecurityError
from discovery.model import Record
from discovery.security.authority import Authority
from discovery.security.envelopes import own_id
from discovery.security.keys import Keys
from discovery.security.renewal import KeysFolderWatch, learn, lists_of, registries_of
from discovery.server.registry_server import RegistryServer
from tests.discovery.stage import Watch, eventually


@pytest.fixture
def authority(tmp_path):
    return Authority.create(tmp_path / "authority")


@pytest.fixture
def on_host(authority, tmp_path):
    """Copies the folder of a node to its host: what the authority does later does not reach it by itself."""

    def on_host(name, host=None):
        folder = tmp_path / "hosts" / (host or name)
        shutil.copytree(authority.folder / name, folder)
        return folder

    return on_host


def key_of(folder):
    return Keys.read(folder).pair.public


# --- the order in which keys are tried ---------------------------------------------------------------------


def test_each_key_is_tried_once_and_the_right_one_comes_first_next_time():
    choice = KeyChoice((b"a", b"b", b"c"))

    tried = [choice.key]
    while choice.try_next():
        tried.append(choice.key)
    assert tried == [b"a", b"b", b"c"]

    choice.try_next()
    choice.succeeded()
    assert choice.key == b"b"
    choice.offer((b"d", b"b"))
    assert choice.key == b"b"
    choice.offer((b"d",))
    assert (choice.key, choice.try_next()) == (b"d", False)


# --- what the authority writes -----------------------------------------------------------------------------


def test_every_folder_has_the_certificates_of_all_registries_that_hold(authority):
    orders = authority.issue("orders")
    first, second = authority.folder / "registry", authority.issue("registry-2", is_registry=True)
    stock = authority.issue("stock")

    for folder in (orders, stock, first, second):
        assert set(Keys.read(folder).registry_keys) == {key_of(first), key_of(second)}

    left = key_of(second)
    authority.revoke("registry")
    for folder in (orders, stock, second):
        assert Keys.read(folder).registry_keys == (left,)


def test_the_successor_of_an_authority_certifies_all_registries(authority, tmp_path):
    authority.issue("orders")
    keys = {key_of(authority.folder / "registry"), key_of(authority.issue("registry-2", is_registry=True))}

    successor = Authority.create(tmp_path / "next", former=authority.folder)

    for file in ("authorities", "registry", "node.certificate"):
        shutil.copy(successor.folder / "orders" / file, authority.folder / "orders")
    assert set(Keys.read(authority.folder / "orders").registry_keys) == keys
    shutil.copy(successor.folder / "authority", authority.folder / "orders" / "authorities")
    assert set(Keys.read(authority.folder / "orders").registry_keys) == keys


def test_a_node_starts_with_a_registrys_certificate_that_does_not_hold_and_a_url_of_registries_says_why(authority, on_host):
    authority.issue("orders")
    folder = on_host("orders")
    authority.revoke("registry")
    shutil.copy(authority.folder / "revoked", folder)

    keys = Keys.read(folder)

    assert keys.registry_keys == ()
    with pytest.raises(DirectoryConfigurationError, match="'registry', that holds: .* of 'registry' was revoked; copy the file"):
        open_directory("tcp://127.0.0.1:1", keys=keys)


# --- what nodes tell each other ----------------------------------------------------------------------------


def test_a_certificate_of_a_registry_is_believed_and_kept_for_the_next_start(authority, on_host):
    authority.issue("orders")
    folder = on_host("orders")
    keys = Keys.read(folder)
    registry = Keys.read(authority.issue("registry-2", is_registry=True))

    assert learn(keys, [], [registry.signed])
    assert not learn(keys, [], [registry.signed])

    assert registry.pair.public in keys.registry_keys and len(keys.registry_keys) == 2
    assert Keys.read(folder).registry_keys == keys.registry_keys
    assert not KeysFolderWatch(keys).look()


def test_a_renewed_certificate_of_a_registry_takes_the_place_of_the_former_one(tmp_path, on_host, authority):
    authority.issue("orders")
    folder = on_host("orders")
    keys = Keys.read(folder)
    later = Authority(authority.folder, clock=lambda: time.time() + 10)
    later.renew("registry", 500)
    renewed = Keys.read(authority.folder / "registry")

    assert learn(keys, [], [renewed.signed])

    assert registries_of(keys) == [renewed.signed]
    after_the_former = time.time() + 400 * 86_400
    [held] = Keys.read(folder).registries
    keys.trust.confirm(held.signed, after_the_former)


def test_only_certificates_of_registries_by_a_trusted_authority_are_learned(authority, on_host, tmp_path):
    authority.issue("orders")
    keys = Keys.read(on_host("orders"))
    before = keys.registries
    stranger = Authority.create(tmp_path / "stranger")
    node = Keys.read(authority.issue("stock"))
    gone = Keys.read(authority.issue("registry-2", is_registry=True))
    authority.revoke("registry-2")
    learn(keys, lists_of(Keys.read(authority.folder / "stock")))

    assert not learn(keys, [], [Keys.read(stranger.folder / "registry").signed, gone.signed])
    with pytest.raises(SecurityError, match="not that of a registry"):
        learn(keys, [], [node.signed])
    with pytest.raises(SecurityError, match="certificate"):
        learn(keys, [], [b"junk"])
    assert keys.registries == before


def test_what_an_operator_copied_meanwhile_is_not_overwritten(authority, on_host):
    for name in ("orders", "one", "two"):
        authority.issue(name)
    folder = on_host("orders")
    keys = Keys.read(folder)
    authority.revoke("one")
    older = authority.revocations().signed
    authority.revoke("two")
    newer = authority.revocations().signed
    shutil.copy(authority.folder / "revoked", folder)
    second, third = (authority.issue(name, is_registry=True) for name in ("registry-2", "registry-3"))
    shutil.copy(second / "registry", folder)

    learn(keys, [older], [Keys.read(third).signed])

    assert lists_of(Keys.read(folder)) == [newer]
    assert {key_of(second), key_of(third)} < set(Keys.read(folder).registry_keys)


# --- registries that run -----------------------------------------------------------------------------------


class TwoRegistries:
    """Two registries, and a service that is registered at both. `views` are all views of a reader."""

    def __init__(self, folders, node, reader):
        self._servers = [self._started(folder, "tcp://127.0.0.1:0") for folder in folders]
        self.urls = [server.url for server in self._servers]
        url = ",".join(self.urls)
        self.node = open_directory(url, ttl=1.0, services=(), keys=node)
        self.reader = open_directory(url, ttl=1.0, services=["maths"], keys=reader)
        self.views = Watch(self.reader)
        self.node.start()
        self.reader.start()
        key = node.pair.public.hex()
        self.node.announce(Record(service="maths", instance=own_id(node, "maths"), ttl=30.0, public_key=key))
        self.views.wait(lambda view: view.service("maths") and self.are_up(view))

    def _started(self, folder, bind):
        """A registry that listens, once the port is free: ZeroMQ closes the socket of the former one a little later."""

        def started():
            server = RegistryServer(bind, ttl=1.0, keys=Keys.read(folder))
            server.start()
            try:
                server.wait_bound(45.0)
            except DirectoryError:
                return None
            return server

        return eventually(started)

    def are_up(self, view):
        return [(one["state"], one["boot_id"]) for one in view.registries] == [("up", one.boot_id) for one in self._servers]

    def restart(self, number, folder):
        self._servers[number].stop(45.0)
        self._servers[number] = self._started(folder, self.urls[number])

    def all_up(self):
        for directory in (self.node, self.reader):
            eventually(lambda directory=directory: self.are_up(directory.view()))

    def close(self):
        for one in (self.node, self.reader, *self._servers):
            one.stop()


@contextmanager
def running(folders, node, reader):
    with closing(TwoRegistries(folders, Keys.read(node), Keys.read(reader))) as made:
        yield made


def test_two_registries_get_keys_of_their_own_and_the_former_key_is_revoked(authority, on_host, caplog):
    authority.issue("maths", {"registers": ("maths",)})
    authority.issue("reader")
    node, reader = on_host("maths"), on_host("reader")
    folders = [on_host("registry", f"registry-{number}") for number in (0, 1)]

    with running(folders, node, reader) as two:
        seen = len(two.views.views)
        new = [authority.issue(f"own-{number}", is_registry=True) for number in (0, 1)]
        known = {key_of(folder) for folder in new}
        # One file, to one of the registries.
        shutil.copy(authority.folder / "own-1" / "registry", folders[1])
        for folder in (node, reader):
            eventually(lambda folder=folder: known < set(Keys.read(folder).registry_keys))
        for number in (0, 1):
            two.restart(number, on_host(f"own-{number}"))
            two.all_up()
        authority.revoke("registry")
        shutil.copy(authority.folder / "revoked", folders[1].with_name("own-1"))
        eventually(lambda: set(Keys.read(reader).registry_keys) == known)

        assert all(view.service("maths") for view in two.views.views[seen:]), "the record never vanished"
        assert two.are_up(two.reader.view())
    assert not [text for text in caplog.messages if "left registry" in text]


def test_a_registry_whose_certificate_is_revoked_is_left_and_the_other_one_goes_on(authority, on_host, caplog):
    authority.issue("maths", {"registers": ("maths",)})
    authority.issue("reader")
    authority.issue("stolen", is_registry=True)
    node, reader, stolen = on_host("maths"), on_host("reader"), on_host("stolen")

    with running([stolen, on_host("registry")], node, reader) as two:
        seen = len(two.views.views)
        serial = authority.revoke("stolen")
        shutil.copy(authority.folder / "revoked", stolen.with_name("registry"))

        why = f"the certificate {serial} of 'stolen' was revoked"
        eventually(lambda: f"left registry {two.urls[0]}: {why}" in caplog.text)
        shutil.copy(authority.folder / "revoked", stolen)
        eventually(lambda: f"clients leave this registry: {why}" in caplog.text)
        eventually(lambda: "SECURITY" in (two.reader.view().registries[0]["error"] or ""))
        assert all(view.service("maths") and view.registries[1]["state"] == "up" for view in two.views.views[seen:])

        two.restart(0, authority.issue("replacement", is_registry=True))
        shutil.copy(authority.folder / "replacement" / "registry", stolen.with_name("registry"))
        two.all_up()
        assert all(view.service("maths") for view in two.views.views[seen:])
