"""Rules that all engines share, and callers that wait: no server, no clock."""

import pytest

from discovery import protocol
from discovery.backends.found import Found
from discovery.backends.keyspace import Keyspace
from discovery.backends.opening import open_first, servers_in_turn
from discovery.client.waiters import Answered, AnsweredInterest, Flush, Flushes
from discovery.exceptions import EngineError
from discovery.model import Note
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
