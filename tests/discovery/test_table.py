"""The rules of leases in a registry. The tests pass `now` themselves."""

from functools import partial

import pytest

from discovery import DirectoryError
from discovery.server import table as table_module
from discovery.server.changes import Removed, Updated
from discovery.server.table import Table
from tests.discovery.stage import record


@pytest.fixture
def table():
    return Table(now=0.0, ttl=10.0)


@pytest.fixture
def bounded():
    return partial(Table, now=0.0, ttl=10.0)


def rounds(table, until, step=0.5, start=0.0, each=lambda now: None):
    """Let time pass in steps that are too small to count as a pause. Return all changes."""
    changes = []
    now = start
    while now < until:
        now = min(until, now + step)
        each(now)
        changes += table.expire(now)
    return changes


def test_a_registered_record_is_held_and_told(table):
    changes = table.register(record(), now=0.0)

    assert changes == [Updated(record(), suspect=False)]
    assert table.snapshot("default", now=2.0) == [[record(), 2.0, False]]


def test_a_repeated_registration_is_no_change_but_renews(table):
    table.register(record(), now=0.0)

    assert table.register(record(), now=4.0) == []
    assert table.entry("one", now=5.0)[1] == 1.0


def test_a_higher_version_replaces_and_a_lower_one_is_ignored(table):
    table.register(record(version=2), now=0.0)

    assert table.register(record(version=1, state="STARTING"), now=1.0) == []
    assert table.register(record(version=3, state="DRAINING"), now=1.0) == [
        Updated(record(version=3, state="DRAINING"), False)
    ]


def test_a_new_incarnation_wins_whatever_its_version(table):
    table.register(record(incarnation=1, version=9), now=0.0)

    changes = table.register(record(incarnation=2, version=0), now=0.0)

    assert changes == [Updated(record(incarnation=2, version=0), False)]


def test_a_lease_runs_out_after_its_own_ttl_and_not_before(table):
    table.register(record("short", ttl=1.0), now=0.0)
    table.register(record("long", ttl=10.0), now=0.0)

    assert rounds(table, until=1.0) == []
    assert rounds(table, until=1.5, start=1.0) == [Removed("default", "short", (0, 0), withdrawn=False)]
    assert [entry[0].instance for entry in table.snapshot(None, 1.5)] == ["long"]


def test_a_renewed_lease_lives_on(table):
    table.register(record(ttl=1.0), now=0.0)

    known = []
    changes = rounds(table, until=5.0, each=lambda now: known.append(table.renew("one", (0, 0), now)))

    assert changes == []
    assert set(map(str, known)) == {str((True, []))}


def test_a_renewal_of_an_unknown_lease_asks_to_register(table):
    assert table.renew("nobody", (0, 0), now=0.0) == (False, [])


def test_a_renewal_of_a_newer_version_asks_to_register(table):
    table.register(record(version=1), now=0.0)

    known, _ = table.renew("one", (0, 2), now=1.0)

    assert not known


def test_a_renewal_of_an_older_version_keeps_nothing_alive(table):
    table.register(record(version=2), now=0.0)

    table.renew("one", (0, 1), now=4.0)

    assert table.entry("one", now=4.0)[1] == 4.0


def test_a_withdrawn_record_is_gone_at_once(table):
    table.register(record(version=3), now=0.0)

    assert table.withdraw("default", "one", (0, 3), now=0.1) == [
        Removed("default", "one", (0, 3), withdrawn=True)
    ]
    assert len(table) == 0


def test_a_withdrawal_of_an_unknown_record_is_passed_on(table):
    changes = table.withdraw("default", "one", (0, 0), now=0.0)

    assert changes == [Removed("default", "one", (0, 0), withdrawn=True)]


def test_a_registration_that_a_withdrawal_overtook_brings_nothing_back(table):
    table.withdraw("default", "one", (5, 2), now=0.0)

    assert table.register(record(incarnation=5, version=2), now=0.1) == []
    assert table.register(record(incarnation=5, version=3), now=0.2) != []


def test_withdrawals_are_kept_for_a_ttl_and_their_number_is_bounded(table, monkeypatch):
    monkeypatch.setattr(table_module, "MAX_TOMBSTONES", 3)
    for number in range(5):
        table.withdraw("default", f"i{number}", (0, 0), now=0.0)

    assert list(table._tombstones) == ["i2", "i3", "i4"]
    rounds(table, until=11.0)
    assert not table._tombstones


def test_withdrawals_are_kept_by_namespace(table):
    table.register(record(), now=0.0)
    table.withdraw("default", "one", (0, 0), now=0.1)
    table.withdraw("other", "two", (0, 0), now=0.1)

    assert table.tombstones("other") == [Removed("other", "two", (0, 0), withdrawn=True)]
    assert [gone.instance for gone in table.tombstones(None)] == ["one", "two"]


def test_a_registry_warms_up_for_one_ttl(table):
    assert table.is_warming(9.9)
    assert not table.is_warming(10.0)


def test_a_snapshot_shows_one_namespace_or_all(table):
    table.register(record("one", namespace="a"), now=0.0)
    table.register(record("two", namespace="b"), now=0.0)

    assert [entry[0].instance for entry in table.snapshot("b", 0.0)] == ["two"]
    assert len(table.snapshot(None, 0.0)) == 2


def test_a_record_that_changes_its_namespace_leaves_the_old_one(table):
    table.register(record(namespace="a", version=1), now=0.0)

    changes = table.register(record(namespace="b", version=2), now=0.0)

    assert changes == [Removed("a", "one", (0, 1), True), Updated(record(namespace="b", version=2), False)]


def test_one_dead_node_of_three_expires_with_all_its_services(table):
    for node in ("a", "b", "c"):
        for service in ("maths", "words"):
            table.register(record(f"{service}-{node}", service, node=node, ttl=1.0), now=0.0)

    def renew_b_and_c(now):
        for node in ("b", "c"):
            for service in ("maths", "words"):
                table.renew(f"{service}-{node}", (0, 0), now)

    changes = rounds(table, until=2.0, each=renew_b_and_c)

    assert {change.instance for change in changes} == {"maths-a", "words-a"}
    assert all(isinstance(change, Removed) for change in changes)


def renew_only(table, instances):
    return lambda now: [table.renew(instance, (0, 0), now) for instance in instances]


def test_many_leases_that_expire_at_once_become_suspect_and_stay(table):
    names = [f"i{number}" for number in range(10)]
    for name in names:
        table.register(record(name, ttl=1.0), now=0.0)

    changes = rounds(table, until=3.0, each=renew_only(table, names[:5]))

    assert changes == [Updated(record(name, ttl=1.0), suspect=True) for name in names[5:]]
    assert len(table) == 10


def test_leases_that_expire_one_after_the_other_also_become_suspect(table):
    names = [f"i{number}" for number in range(10)]
    for number, name in enumerate(names):
        table.register(record(name, ttl=1.0), now=number * 0.05)

    changes = rounds(table, until=4.0, step=0.05)

    assert sum(isinstance(change, Removed) for change in changes) <= 1
    assert len(table) >= 9


def test_a_suspect_lease_that_is_renewed_is_no_longer_suspect(table):
    names = ["a", "b", "c", "d"]
    for name in names:
        table.register(record(name, ttl=1.0), now=0.0)
    rounds(table, until=1.5)

    assert table.snapshot(None, 1.5)[0][2] is True
    assert table.renew("a", (0, 0), now=1.5) == (True, [Updated(record("a", ttl=1.0), suspect=False)])


def test_a_suspect_lease_is_removed_in_the_end(table):
    for name in ("a", "b", "c", "d"):
        table.register(record(name, ttl=1.0), now=0.0)

    rounds(table, until=table_module.SUSPECT_TTLS + 2.0)

    assert len(table) == 0


def test_without_preservation_all_expired_leases_are_removed(table):
    table = Table(now=0.0, ttl=10.0, preserve=False)
    for name in ("a", "b", "c", "d"):
        table.register(record(name, ttl=1.0), now=0.0)

    changes = rounds(table, until=1.5)

    assert all(isinstance(change, Removed) for change in changes)
    assert len(table) == 0


def test_a_registry_that_was_paused_expires_no_lease(table):
    table = Table(now=0.0, ttl=10.0, preserve=False)
    table.register(record(ttl=1.0), now=0.0)
    table.expire(0.5)

    assert table.expire(60.0) == []
    assert rounds(table, until=62.0, start=60.0) == [Removed("default", "one", (0, 0), False)]


def test_a_registry_that_was_paused_for_about_a_ttl_expires_no_lease_either(table):
    table = Table(now=0.0, ttl=10.0, preserve=False)
    table.register(record(ttl=1.0), now=0.0)
    table.expire(0.3)

    assert table.expire(1.3) == []


def test_leases_expire_even_if_every_check_is_late(table):
    table = Table(now=0.0, ttl=10.0, preserve=False)
    table.register(record(ttl=1.0), now=0.0)

    assert [change for look in range(1, 10) for change in table.expire(look * 0.6)] == [
        Removed("default", "one", (0, 0), False)
    ]


def test_a_full_registry_refuses_new_leases_and_keeps_the_old(bounded):
    table = bounded(max_leases=2)
    table.register(record("one"), now=0.0)
    table.register(record("two"), now=0.0)

    with pytest.raises(DirectoryError, match="full"):
        table.register(record("three"), now=0.0)
    assert table.register(record("two", version=1), now=0.0) != []


def test_the_bytes_of_all_records_are_bounded_and_given_back(bounded):
    table = bounded(max_bytes=1000)
    table.register(record("one"), now=0.0, size=900)

    with pytest.raises(DirectoryError, match="full"):
        table.register(record("two"), now=0.0, size=200)
    table.withdraw("default", "one", (0, 0), now=0.0)
    assert table.register(record("two"), now=0.0, size=1000) != []


def register(table, instance, holder, size=0, version=0):
    return table.register(record(instance, version=version), now=0.0, size=size, holder=holder)


def test_the_leases_of_one_connection_are_bounded_and_it_may_change_them(bounded):
    table = bounded(max_leases_of_holder=2)
    register(table, "one", b"a")
    register(table, "two", b"a")

    with pytest.raises(DirectoryError, match="one connection may hold 2 leases"):
        register(table, "three", b"a")
    assert register(table, "two", b"a", version=1) != []
    assert register(table, "three", b"b") != []
    table.withdraw("default", "one", (0, 0), now=0.0)
    assert register(table, "four", b"a") != []


def test_the_bytes_of_one_connection_are_bounded(bounded):
    table = bounded(max_bytes_of_holder=1000)
    register(table, "one", b"a", size=600)

    with pytest.raises(DirectoryError, match="1000 bytes of records; these would be 1100"):
        register(table, "two", b"a", size=500)
    with pytest.raises(DirectoryError, match="these would be 1001"):
        register(table, "one", b"a", size=1001, version=1)
    assert register(table, "one", b"a", size=1000, version=1) != []
    assert register(table, "two", b"b", size=1000) != []


def test_a_lease_belongs_to_the_connection_that_registered_it_last(bounded):
    table = bounded(max_leases_of_holder=1)
    register(table, "one", b"old")

    register(table, "one", b"new")

    assert register(table, "two", b"old") != []
    with pytest.raises(DirectoryError):
        register(table, "three", b"new")


def test_in_a_full_registry_a_connection_with_many_more_leases_loses_one(bounded):
    table = bounded(max_leases=6)
    register(table, "honest", b"a")
    for number in range(5):
        register(table, f"forged{number}", b"flood")

    changes = register(table, "another", b"b")

    assert changes == [Removed("default", "forged0", (0, 0), withdrawn=False), Updated(record("another"), False)]
    with pytest.raises(DirectoryError, match="full"):
        register(table, "forged5", b"flood")
    assert {entry[0].instance for entry in table.snapshot(None, 0.0)} >= {"honest", "another"}


def test_a_refused_registration_removes_no_lease(bounded):
    table = bounded(max_leases=6, max_bytes=1000)
    register(table, "large", b"a", size=900)
    for number in range(5):
        register(table, f"small{number}", b"flood", size=10)

    # A small lease would have to go for its place, and there would be no room for its bytes all the same.
    with pytest.raises(DirectoryError, match="full"):
        register(table, "another", b"b", size=500)

    assert {entry[0].instance for entry in table.snapshot(None, 0.0)} == {"large", *(f"small{n}" for n in range(5))}


def test_in_a_registry_full_of_bytes_a_connection_with_many_more_loses_a_lease(bounded):
    table = bounded(max_bytes=1000)
    register(table, "large0", b"flood", size=450)
    register(table, "large1", b"flood", size=450)

    changes = register(table, "small", b"a", size=200)

    assert changes[0] == Removed("default", "large0", (0, 0), withdrawn=False)
    with pytest.raises(DirectoryError, match="full"):
        register(table, "large2", b"flood", size=450)


def test_a_connection_that_takes_over_the_lease_to_be_dropped_keeps_it(bounded):
    table = bounded(max_bytes=1000)
    for number in range(9):
        register(table, f"i{number}", b"flood", size=110)

    changes = register(table, "i0", b"a", size=200, version=1)

    assert changes == [Removed("default", "i0", (0, 0), withdrawn=False), Updated(record("i0", version=1), False)]
    assert table._shares.bytes == sum(lease.size for lease in table._leases.values())
    assert {key: holder.bytes for key, holder in table._shares.holders.items()} == {b"flood": 880, b"a": 200}
