"""Rules of the client of ZooKeeper that need no server: paths, and the contents of the nodes that were read."""

import pytest

from discovery import protocol
from discovery.backend import everything
from discovery.backends.zookeeper.paths import NodePlace, ZooKeeperPaths
from discovery.backends.zookeeper.tree import NodeTree
from discovery.client.engine_session import Gone
from discovery.model import Note
from discovery.security.revocations import FoundList
from tests.discovery.stage import record

PATHS = ZooKeeperPaths("shop/a", "default", is_closed=False)


def packed(item):
    return protocol.pack(item.to_dict() if hasattr(item, "to_dict") else item.to_list())


def note(stamp, value, key="k", ttl=60.0):
    return Note("default", key, stamp, ttl, value)


@pytest.fixture
def tree():
    return NodeTree(PATHS, "zookeeper://h/shop", everything)


# --- paths ---


def test_a_record_has_a_node_under_its_service_and_one_under_each_source():
    one = record("i/1", "maths", incarnation=3, version=4, subscriptions=[{"source": source} for source in ("b", "a")])

    assert PATHS.of_record(one) == [
        "/shop/a/default/records/maths/i%2F1;3.4",
        "/shop/a/default/subscribers/a/i%2F1;3.4",
        "/shop/a/default/subscribers/b/i%2F1;3.4",
    ]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/shop/a/default/records/maths/i%2F1;3.4", NodePlace("default", "records", "maths", "i/1")),
        ("/shop/a/default/subscribers/or%3Bders/i;3.4", NodePlace("default", "subscribers", "or;ders", "i")),
        ("/shop/a/%2E%2E/notes/group%3Ax;17.abcd", NodePlace("..", "notes", "", "group:x")),
    ],
)
def test_what_a_path_is_about(path, place):
    assert PATHS.place_of(path) == place


@pytest.mark.parametrize(
    ("path", "is_folder"),
    [
        ("/shop/a", True),
        ("/shop/a/default", True),
        ("/shop/a/default/records", True),
        ("/shop/a/default/records/maths", False),
        ("/shop/a/default/notes", False),
        ("/shop/a/@revoked", False),
    ],
)
def test_folders_have_folders_in_them(path, is_folder):
    assert PATHS.is_folder(path) is is_folder


def test_a_client_reads_only_the_folders_of_its_interest():
    assert PATHS.roots(frozenset({"service:maths", "subscribers:orders"})) == {
        "/shop/a/default/notes",
        "/shop/a/default/records/maths",
        "/shop/a/default/subscribers/orders",
    }
    assert PATHS.roots(None) == {"/shop/a/default/notes", "/shop/a/default/records"}
    assert ZooKeeperPaths("shop", None, is_closed=False).roots(None) == {"/shop"}


def test_lists_of_revoked_certificates_are_read_in_a_closed_cluster():
    closed = ZooKeeperPaths("shop", "default", is_closed=True)

    assert closed.revoked in closed.roots(frozenset()) and closed.revoked in closed.lasting()
    assert closed.is_read(closed.revoked) and not PATHS.is_read(PATHS.revoked)


# --- what the nodes hold ---


def test_a_record_that_is_replaced_is_listed_all_the_time(tree):
    first, second = record("one", version=1), record("one", version=2)
    (old,), (new,) = PATHS.of_record(first), PATHS.of_record(second)

    assert tree.came(old, packed(first)) == first
    assert tree.came(new, packed(second)) == second
    assert tree.left(old) is None
    assert tree.records() == [second]
    assert tree.left(new) == Gone("one")
    assert tree.left(new) is None


def test_an_older_version_that_comes_late_is_no_change(tree):
    first, second = record("one", version=1), record("one", version=2)

    assert tree.came(PATHS.of_record(second)[0], packed(second)) == second
    assert tree.came(PATHS.of_record(first)[0], packed(first)) is None


@pytest.mark.parametrize("path", ["/shop/a/default/records/other/one;0.0", "/shop/a/other/records/maths/one;0.0"])
def test_a_record_in_the_wrong_place_is_ignored(tree, path):
    assert tree.came(path, packed(record("one"))) is None
    assert tree.records() == []


def test_junk_is_logged(tree, caplog):
    assert tree.came("/shop/a/default/records/maths/one;0.0", b"junk") is None
    assert "passed over node /shop/a/default/records/maths/one;0.0 of directory zookeeper://h/shop" in caplog.text


def test_records_that_verification_rejects_are_ignored():
    tree = NodeTree(PATHS, "zookeeper://h/shop", lambda found, where: False)

    assert tree.came(PATHS.of_record(record("one"))[0], packed(record("one"))) is None


def test_of_two_notes_that_were_written_at_once_the_writer_deletes_the_replaced_one(tree):
    mine, theirs = note(1, {"a": 1}), note(2, {"a": 2})
    old, new = PATHS.of_note(mine, packed(mine)), PATHS.of_note(theirs, packed(theirs))
    tree.written.add(old)

    assert tree.came(old, packed(mine)) == mine
    assert tree.replaced_beside(old) == []
    assert tree.came(new, packed(theirs)) == theirs
    assert tree.replaced_beside(new) == [old]
    assert tree.notes() == [theirs]


def test_notes_of_other_writers_are_not_deleted(tree):
    for one in (note(1, {"a": 1}), note(2, {"a": 2})):
        tree.came(PATHS.of_note(one, packed(one)), packed(one))

    assert tree.replaced_beside(PATHS.of_note(one, packed(one))) == []


def test_replaced_and_expired_notes_are_outdated(tree):
    first, second, other = note(1, {"a": 1}), note(2_000_000, {"a": 2}), note(1_000_000, {}, key="late", ttl=1.0)
    for one in (first, second, other):
        tree.came(PATHS.of_note(one, packed(one)), packed(one))

    assert tree.outdated(now=2.5) == [PATHS.of_note(first, packed(first)), PATHS.of_note(other, packed(other))]


def test_a_list_of_revoked_certificates_comes_and_goes(tree):
    path = f"{PATHS.revoked}/aabb;1.cc"

    assert tree.came(path, b"signed") == FoundList(b"signed")
    assert tree.lists_of(bytes.fromhex("aabb")) == {path: b"signed"} and tree.lists_of(b"\1") == {}
    assert tree.left(path) == FoundList(b"")
    assert tree.left(path) is None
