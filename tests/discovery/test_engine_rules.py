"""Rules that all engines share, and callers that wait: no server, no clock."""

import pytest

from discovery import protocol
from discovery.backends.found import Found
from discovery.backends.keyspace import Keyspace
from discovery.backends.opening import open_first, servers_in_turn
from discovery.client.waiters import Answered, AnsweredInterest, Flush, Flushes
from discovery.exceptions import DirectoryProtocolError, EngineError
from discovery.model import Note
from discovery.packing import unpack_some
from tests.discovery.stage import record

SERVERS = (("a", 1), ("b", 2), ("c", 3))


def test_attempts_begin_with_each_of_the_servers():
    orders = [servers_in_turn(SERVERS) for _ in range(100)]

    assert {order[0] for order in orders} == set(SERVERS)
    assert all(sorted(order) == sorted(SERVERS) for order in orders)


def test_the_first_server_that_answers_is_used():
    def open_at(server):
        if server[0] == "a":
            raise EngineError("a:1 cannot be reached")
        return server

    assert open_first(SERVERS, open_at) == ("b", 2)


def test_without_an_answer_each_reason_is_told_once():
    def open_at(server):
        raise EngineError("it is closed" if server[0] == "c" else "it is away")

    with pytest.raises(EngineError, match="^it is away; it is closed$"):
        open_first(SERVERS, open_at)


def test_records_and_notes_are_sorted_and_outdated_notes_are_kept_apart():
    space = Keyspace("etcd://h/shop", "/shop/", "default")
    one, fresh, past = record("one"), Note("default", "new", 9_000_000, 5.0, {}), Note("default", "old", 1_000_000, 5.0, {})
    found = Found()

    found.sort(space, space.keys_of(one)[0], protocol.pack(one.to_dict()), "1", now=10.0)
    for note in (fresh, past):
        found.sort(space, space.note_key(note), protocol.pack(note.to_list()), note.key, now=10.0)
    found.sort(space, "/shop/default/notes/junk", b"\xc1", "junk", now=10.0)

    assert found.records == {"one": one}
    assert found.notes == [fresh]
    assert found.expired == ["old"]
    assert space.keys == {"one": {space.keys_of(one)[0]}}


def packed(one):
    return protocol.pack(one.to_dict())


def test_records_that_are_not_needed_yet_are_kept_in_blocks():
    space = Keyspace("etcd://h/shop", "/shop/", "default")
    space.interest = frozenset({"service:maths", "subscribers:orders"})
    plain = record("plain", methods={"add": {"idempotent": True}}, version=7, incarnation=5)
    mails = record("mails", "mails", subscriptions=[{"source": "orders"}, {"source": "else"}])
    both = record("both", subscriptions=[{"source": "orders"}])
    found = Found(is_packed=True)
    for one, keys in ((plain, slice(0, 1)), (mails, slice(2, 3)), (both, slice(0, 2))):
        for key in space.keys_of(one)[keys]:
            found.sort(space, key, packed(one), "item", now=10.0)

    blocks = found.blocks()

    assert found.records == {}
    entries = {entry[0].instance: entry[0] for block in blocks for entry in block.entries}
    assert {name: entry.unpacked() for name, entry in entries.items()} == {"plain": plain, "mails": mails, "both": both}
    assert sum(len(block.entries) for block in blocks) == 3, "each once, although one of them has two keys"
    assert entries["plain"].rank == (5, 7)
    assert entries["mails"].keys == ("service:mails", "subscribers:else", "subscribers:orders")
    assert space.left(space.keys_of(plain)[0], lambda keys: [], lambda instance: False) == "plain"
    assert space.left(space.keys_of(mails)[2], lambda keys: [], lambda instance: False) == "mails"
    assert space.left(space.keys_of(both)[0], lambda keys: [], lambda instance: False) is None


ODD = record("odd", "maths")


@pytest.mark.parametrize(
    ("key", "one"),
    [
        ("/shop/default/records/maths/other", ODD),
        ("/shop/default/records/words/odd", ODD),
        ("/shop/another/records/maths/odd", ODD),
        ("/shop/default/subscribers/maths/odd", ODD),
        ("/shop/default/records/maths/odd", ODD.replace(version=-1)),
        ("/shop/default/records/m%61ths/odd", ODD),
    ],
)
def test_a_record_in_the_wrong_place_is_in_no_block(key, one):
    space = Keyspace("etcd://h/shop", "/shop/", "default")
    space.interest = frozenset({"service:maths", "subscribers:maths"})
    found = Found(is_packed=True)

    found.sort(space, key, packed(one), "item", now=10.0)

    assert not found.records and not found.blocks() and not space.keys


def test_a_name_that_must_be_encoded_is_decoded_at_once():
    space = Keyspace("etcd://h/shop", "/shop/", "default")
    found, one = Found(is_packed=True), record("a b/c", "é")

    found.sort(space, space.keys_of(one)[0], packed(one), "item", now=10.0)

    assert found.records == {"a b/c": one}


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa1a", protocol.pack({"b": 1})[:2]])
def test_some_values_of_what_is_no_map_are_an_error(frame):
    with pytest.raises(DirectoryProtocolError):
        unpack_some(frame, frozenset({"a", "b"}))


def test_some_values_of_a_map_are_decoded():
    frame = protocol.pack({"x": {"y": [1, 2]}, "a": 1, "z": "é", "b": [2]})

    assert unpack_some(frame, frozenset({"a", "b"})) == {"a": 1, "b": [2]}
    assert unpack_some(frame, frozenset({"a", "c"})) == {"a": 1}


def test_a_flush_ends_when_all_servers_acknowledged_and_no_other_may_connect():
    flushes, flush = Flushes(), Flush()
    flushes.add(flush)

    flushes.tell(is_acknowledged=False, may_come=False)
    assert not flush.good_enough
    flushes.tell(is_acknowledged=True, may_come=True)
    assert flush.good_enough and not flush.done.is_set() and flushes
    flushes.tell(is_acknowledged=True, may_come=False)

    assert flush.done.is_set() and not flushes


def test_a_caller_waits_for_all_keys_of_its_interest():
    answered, caller = AnsweredInterest(), Answered(frozenset({"service:a", "service:b"}))
    answered.add(caller)

    answered.grow(frozenset({"service:a"}))
    assert not caller.done.is_set()
    assert answered.beyond(frozenset({"service:a", "service:b"})) == frozenset({"service:b"})
    answered.grow(frozenset({"service:b"}))

    assert caller.done.is_set()


def test_a_caller_whose_interest_was_answered_before_does_not_wait():
    answered, caller = AnsweredInterest(), Answered(frozenset({"service:a"}))
    answered.grow(None)

    answered.add(caller)

    assert caller.done.is_set()
    assert answered.beyond(frozenset({"service:b"})) == frozenset({"service:b"})
