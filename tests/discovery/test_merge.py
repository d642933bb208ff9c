"""The lists of several registries are merged into one view. The tests pass `now` themselves."""

import pytest

from discovery.client.merge import OWN, Merge, MergedRecord
from tests.discovery.stage import record


@pytest.fixture
def merge():
    return Merge()


def entries(*records, last_contact=0.0, suspect=False):
    return [MergedRecord(item, last_contact, suspect) for item in records]


def test_the_union_of_all_registries_is_known(merge):
    merge.snapshot("a", entries(record("one")), warming=False)
    merge.snapshot("b", entries(record("two")), warming=False)

    assert merge.settle(0.0) == {"one", "two"}
    assert set(merge.known) == {"one", "two"}


def test_the_higher_rank_wins_wherever_it_came_from(merge):
    merge.snapshot("a", entries(record(version=2, state="DRAINING")), warming=False)
    merge.snapshot("b", entries(record(version=1)), warming=False)

    merge.settle(0.0)

    assert merge.known["one"].record.state == "DRAINING"
    assert merge.known["one"].listed_by == ("a", "b")


def test_an_unchanged_record_is_not_reported(merge):
    merge.snapshot("a", entries(record()), warming=False)
    merge.settle(0.0)

    merge.update("a", MergedRecord(record(), 5.0))

    assert merge.settle(5.0) == set()
    assert merge.known["one"].last_contact == 5.0


def test_a_record_leaves_only_when_every_connected_registry_dropped_it(merge):
    for registry in ("a", "b"):
        merge.snapshot(registry, entries(record()), warming=False)
    merge.settle(0.0)

    merge.drop("a", "one", (0, 0), withdrawn=False)
    assert merge.settle(1.0) == set()

    merge.drop("b", "one", (0, 0), withdrawn=False)
    assert merge.settle(1.0) == {"one"}
    assert merge.known == {}


def test_a_withdrawal_counts_at_once_even_if_another_registry_still_lists_the_record(merge):
    for registry in ("a", "b"):
        merge.snapshot(registry, entries(record(version=4)), warming=False)
    merge.settle(0.0)

    merge.drop("a", "one", (0, 4), withdrawn=True)

    assert merge.settle(0.0) == {"one"}
    merge.snapshot("b", entries(record(version=4)), warming=False)
    merge.settle(1.0)
    assert merge.known == {}
    merge.update("b", MergedRecord(record(version=5), 2.0))
    merge.settle(2.0)
    assert set(merge.known) == {"one"}


def test_a_restarted_registry_deletes_nothing_while_it_warms_up(merge):
    merge.snapshot("a", entries(record()), warming=False)
    merge.settle(0.0)
    merge.lost("a", now=1.0)
    merge.settle(1.0)

    merge.snapshot("a", [], warming=True)
    assert merge.settle(2.0) == set()
    assert not merge.is_fresh

    merge.warmed("a", warming=False)
    assert merge.settle(12.0) == {"one"}


def test_with_every_registry_gone_all_records_stay(merge):
    merge.snapshot("a", entries(record()), warming=False)
    merge.settle(0.0)

    merge.lost("a", now=1.0)

    assert merge.settle(1e9) == set()
    assert merge.known["one"].listed_by == ()


def test_a_record_that_only_a_lost_registry_listed_stays_one_ttl_longer(merge):
    merge.snapshot("a", [], warming=False)
    merge.snapshot("b", entries(record(ttl=10.0)), warming=False)
    merge.settle(0.0)

    merge.lost("b", now=100.0)

    assert merge.settle(109.9) == set()
    assert merge.is_waiting
    assert merge.settle(110.1) == {"one"}
    assert not merge.is_waiting


def test_a_record_is_suspect_if_all_registries_that_list_it_say_so(merge):
    merge.snapshot("a", entries(record(), suspect=True), warming=False)
    merge.snapshot("b", entries(record()), warming=False)
    merge.settle(0.0)
    assert not merge.known["one"].suspect

    merge.update("b", MergedRecord(record(), 0.0, suspect=True))

    assert merge.settle(1.0) == {"one"}
    assert merge.known["one"].suspect


def test_a_view_from_disk_counts_until_a_warm_registry_replaces_it(merge):
    merge.restore(entries(record("old")))
    assert merge.settle(0.0) == {"old"}
    assert merge.settle(0.0) == set()
    assert set(merge.known) == {"old"}

    merge.snapshot("a", entries(record("new")), warming=True)
    merge.settle(1.0)
    assert set(merge.known) == {"old", "new"}

    merge.warmed("a", warming=False)
    merge.settle(2.0)
    assert set(merge.known) == {"new"}


def test_a_snapshot_after_a_gap_replaces_what_the_registry_listed(merge):
    merge.snapshot("a", entries(record("one"), record("two")), warming=False)
    merge.settle(0.0)

    merge.snapshot("a", entries(record("two")), warming=False)

    assert merge.settle(1.0) == {"one"}


def test_a_removed_registry_does_not_count(merge):
    merge.snapshot("a", entries(record("one")), warming=False)
    merge.snapshot("b", entries(record("two")), warming=False)
    merge.settle(0.0)

    merge.remove_registry("a")

    assert merge.settle(0.0) == {"one"}


def test_an_own_announcement_is_listed_once_a_registry_lists_this_version(merge):
    old, new = record("one", version=1), record("one", version=2)
    merge.snapshot(OWN, [], warming=True)
    merge.update(OWN, MergedRecord(new, 0.0))
    assert merge.settle(0.0) == {"one"}
    assert not merge.known["one"].is_listed

    merge.snapshot("a", entries(old), warming=False)
    merge.settle(1.0)
    assert not merge.known["one"].is_listed

    merge.update("a", MergedRecord(new, 2.0))
    assert merge.settle(2.0) == {"one"}, "whoever waits for it is told"
    assert merge.known["one"].is_listed
