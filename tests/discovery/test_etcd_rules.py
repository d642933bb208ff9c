"""Rules of the client of etcd that need no server: messages that write, and which lease is asked for."""

import pytest

from discovery.backends.etcd import writes
from discovery.backends.etcd.leases import EtcdLeases, OwnRecord
from discovery.backends.etcd.member import INVALID, NOT_FOUND, EtcdFailure
from discovery.backends.etcd.messages import Range, below
from discovery.backends.etcd.protobuf import field, fields
from discovery.backends.etcd.ranges import StoredKey
from discovery.backends.etcd.writes import (
    GRANT,
    KEEP_ALIVE,
    TIME_TO_LIVE,
    WriteAnswer,
    create_lock,
    decode_lease,
    decode_write,
    delete,
    delete_lock,
    encode_grant,
    encode_keep_alive,
    put,
    put_if_unchanged,
    transactions,
)
from discovery.exceptions import EngineOverdueError


def test_a_prefix_is_the_range_up_to_the_next_sibling():
    assert below("/shop/") == Range(b"/shop/", b"/shop0")


def test_many_operations_become_several_transactions_in_order(monkeypatch):
    monkeypatch.setattr(writes, "OPERATIONS", 2)

    first, second = transactions([put("a", b"1", 9), delete(b"b"), put("c", b"3", 0)])

    assert first == bytes.fromhex("120a" "1208" "0a0161" "120131" "1809" "1205" "1a03" "0a0162")
    assert second == bytes.fromhex("1208" "1206" "0a0163" "120133")


def test_large_operations_become_several_transactions(monkeypatch):
    monkeypatch.setattr(writes, "LONGEST", 40)

    assert len(list(transactions([put("a", b"x" * 10, 9)] * 3))) == 2
    assert len(list(transactions([put("a", b"x" * 50, 9)] * 3))) == 3
    assert list(transactions([])) == []


def test_a_value_is_put_only_if_the_key_has_not_changed_since():
    condition, operation, otherwise = "1002" "1a016b" "3007", "1206" "0a016b" "120176", "0a03" "0a016b"

    assert put_if_unchanged("k", b"v", 7) == bytes.fromhex("0a07" + condition + "1208" + operation + "1a05" + otherwise)


def test_locks_are_created_and_deleted_on_conditions():
    taken = dict(fields(create_lock("k", "me", 5, 0)))
    given_back = dict(fields(delete_lock("k", "me")))

    # Whatever is not there was created at revision 0, which protobuf leaves out.
    assert taken[1] == bytes.fromhex("1001" "1a016b")
    assert taken[2] == put("k", b"me", 5)
    assert given_back[1] == bytes.fromhex("1003" "1a016b" "3a026d65")
    assert given_back[2] == delete(b"k")


HEADER = field(1, field(3, 9))


@pytest.mark.parametrize(
    ("answer", "decoded"),
    [
        (HEADER + field(2, 1), WriteAnswer(True, 9, None)),
        (HEADER + field(3, field(1, b"")), WriteAnswer(False, 9, None)),
        (HEADER + field(3, field(1, field(2, b"\x0a\x01k"))), WriteAnswer(False, 9, StoredKey(b"k", b"", b"\x0a\x01k"))),
    ],
)
def test_the_conflicting_key_is_found(answer, decoded):
    assert decode_write(answer) == decoded


def lease(number, seconds):
    return field(2, number) + field(3, seconds)


class Member:
    """Grants leases of the seconds asked for, numbered; `alive` says for how long each is renewed. `there`: keys and leases."""

    def __init__(self):
        self.granted = []
        self.alive = {}
        self.there = {}

    def ask(self, path, message):
        number = dict(fields(message)).get(1, 0)
        if path == GRANT:
            self.granted.append(number)
            return lease(len(self.granted), number)
        if path == TIME_TO_LIVE:
            return b"".join(field(5, key) for key, lease in self.there.items() if lease == number)
        assert path == KEEP_ALIVE
        return lease(number, self.alive.get(number, 10))


def test_a_lease_is_asked_for_and_answered_in_whole_seconds():
    assert encode_grant(10) == bytes.fromhex("080a")
    assert decode_lease(HEADER + lease(2**62, 10)) == (2**62, 10)
    assert decode_lease(HEADER) == (0, 0)


def test_records_of_one_ttl_share_a_lease():
    member, leases = Member(), EtcdLeases()

    used = [leases.under(member, seconds, lambda lease: lease) for seconds in (0.5, 1.0, 2.5, 3.0)]

    assert used == [1, 1, 2, 2]
    assert member.granted == [1, 3]
    assert leases.shortest() == 1.0


def test_an_expired_lease_is_requested_again():
    def put(lease):
        if lease == 1:
            raise EtcdFailure(NOT_FOUND, "requested lease not found")
        return lease

    assert EtcdLeases().under(Member(), 1.0, put) == 2


def test_any_other_failure_is_not_tried_again():
    member = Member()

    def put(lease):
        raise EtcdFailure(INVALID, "etcdserver: too many operations")

    with pytest.raises(EtcdFailure, match="^too many operations$"):
        EtcdLeases().under(member, 1.0, put)
    assert member.granted == [1]


@pytest.fixture
def held():
    """Leases of 1 and 9 seconds with the records a and b, and c; and their member."""
    member, leases = Member(), EtcdLeases()
    for seconds, instance in ((1.0, "a"), (1.0, "b"), (9.0, "c")):
        number = leases.under(member, seconds, lambda lease: lease)
        leases.own[instance] = OwnRecord(int(seconds), frozenset({f"/{instance}"}), b"value")
        member.there[f"/{instance}".encode()] = number
    return member, leases


def test_a_lease_that_the_server_forgot_is_lost_with_all_that_were_under_it(held):
    member, leases = held
    member.alive[1] = 0

    assert leases.renew(member) == ["a", "b"]
    assert leases.missing(member, [("a", "/a"), ("c", "/c")]) == {"a"}
    assert leases.renew(member) == []


def test_a_lost_lease_is_told_although_the_next_renewal_was_overdue(held, monkeypatch):
    member, leases = held
    member.alive[1] = 0
    answer = member.ask

    def overdue(path, message):
        if message == encode_keep_alive(2):
            raise EngineOverdueError("no answer")
        return answer(path, message)

    with monkeypatch.context() as patch:
        patch.setattr(member, "ask", overdue)
        with pytest.raises(EngineOverdueError):
            leases.renew(member)

    assert leases.renew(member) == ["a", "b"]


def test_a_later_session_keeps_all_records_that_are_still_under_their_leases(held):
    member, leases = held

    assert leases.resume(member) == {"a", "b", "c"}
    del member.there[b"/a"]
    member.there[b"/c"] = 77
    assert leases.resume(member) == {"b"}, "one was deleted, and one was put under the lease of another process"
    assert member.granted == [1, 9], "no lease was asked for again"


def test_a_record_that_was_being_written_when_the_session_failed_is_not_kept(held):
    member, leases = held
    leases.own["a"] = OwnRecord(1, frozenset({"/a"}), None)

    assert leases.resume(member) == {"b", "c"}


def test_answers_that_a_session_gets_after_it_was_given_up_do_not_count(held):
    member, former = held
    present = EtcdLeases(former)

    def late_put(lease):
        if lease == 1:
            assert present.under(member, 5.0, lambda lease: lease) == 3
            raise EtcdFailure(NOT_FOUND, "requested lease not found")
        return lease

    assert former.under(member, 1.0, late_put) == 4
    former.under(member, 5.0, lambda lease: lease)
    del former.own["c"]

    assert [present.under(member, seconds, lambda lease: lease) for seconds in (1.0, 5.0)] == [1, 3]
    assert present.resume(member) == {"a", "b", "c"}


def test_a_record_that_a_former_session_has_written_late_is_lost(held):
    member, first = held
    present = EtcdLeases(EtcdLeases(first))

    first.was_written("a", frozenset({"/a", "/late"}))
    present.was_written("b", frozenset({"/b"}))

    assert present.own["a"] == OwnRecord(1, frozenset({"/a", "/late"}), None)
    assert present.renew(member) == ["a"]
    assert present.renew(member) == []
