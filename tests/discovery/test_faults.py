"""How many faulty messages a connection may send before what it sends is dropped for a while. Time is wound by hand."""

import pytest

from discovery import faults
from discovery.faults import BLOCK_TIME, FaultCount, FaultyPeers, too_many


@pytest.fixture
def peers():
    return FaultyPeers(most=3)


def test_faults_within_one_second_are_counted_together():
    count = FaultCount()

    assert [count.add(2, now) for now in (10.0, 10.5, 10.9)] == [False, False, True]


def test_a_new_second_begins_with_the_first_fault_after_the_last_one():
    count = FaultCount()

    assert not any(count.add(2, now) for now in (10.0, 10.9, 11.0, 11.9, 12.0))


def test_a_peer_is_blocked_for_its_first_fault_too_many_and_then_no_longer_counted(peers):
    assert [peers.add(b"a", 5.0) for _ in range(4)] == [False, False, False, True]

    assert list(peers.blocked(5.0 + BLOCK_TIME - 0.1)) == [b"a"]
    assert not peers.blocked(5.0 + BLOCK_TIME)
    assert not peers.add(b"a", 5.0 + BLOCK_TIME)


def test_the_faults_of_others_do_not_count(peers):
    for peer in (b"a", b"b", b"c"):
        assert not any(peers.add(peer, 5.0) for _ in range(3))

    assert peers.add(b"b", 5.0)
    assert list(peers.blocked(5.0)) == [b"b"]


def test_blocks_end_in_the_order_in_which_they_began(peers):
    for peer, now in ((b"a", 1.0), (b"b", 2.0)):
        for _ in range(4):
            peers.add(peer, now)

    assert list(peers.blocked(1.5 + BLOCK_TIME)) == [b"b"]


def test_very_many_connections_with_a_fault_each_are_not_remembered_for_ever(peers, monkeypatch):
    monkeypatch.setattr(faults, "MANY_COUNTS", 10)
    peers = FaultyPeers(most=3)

    for number in range(1000):
        peers.add(b"%d" % number, now=number / 10)

    assert len(peers._counts) <= 20


def test_the_peer_and_the_log_are_told_why():
    why = "more than 20 faulty messages within a second (max_faults_per_second)"

    assert too_many(20) == f"{why}; what you send is dropped for 10 s"
    assert too_many(20, "it sends") == f"{why}; what it sends is dropped for 10 s"
