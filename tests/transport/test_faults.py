"""Junk is counted for each peer, and fills no log."""

import logging

import pytest

from zmqservices.transport import faults
from zmqservices.transport.faults import LOG_INTERVAL, MOST_PEERS, Faults


@pytest.fixture
def clock(monkeypatch):
    """`clock[0]` is what monotonic() says."""
    now = [1000.0]
    monkeypatch.setattr(faults, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def seen(caplog):
    caplog.set_level(logging.WARNING)
    found = Faults(logging.getLogger("junk"))
    return found, caplog


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_peer_has_a_line_a_minute_that_says_how_many_came(clock, seen):
    found, caplog = seen
    for _ in range(1000):
        found.saw("a peer at 10.0.0.7", "not a message")
    clock[0] += LOG_INTERVAL
    found.saw("a peer at 10.0.0.7", "not a message")

    assert lines(caplog) == [
        "a peer at 10.0.0.7 sent what cannot be handled (1 such messages): not a message",
        "a peer at 10.0.0.7 sent what cannot be handled (1000 such messages): not a message",
    ]
    assert found.count == 1001


def test_one_peer_hides_no_other(clock, seen):
    found, caplog = seen
    for peer in ("10.0.0.7", "10.0.0.8", "10.0.0.7"):
        found.saw(peer, "junk")

    assert [line.split()[0] for line in lines(caplog)] == ["10.0.0.7", "10.0.0.8"]


def test_many_names_fill_no_log_and_no_memory(clock, seen):
    found, caplog = seen
    for number in range(10_000):
        found.saw(f"node {number}", "junk")

    assert len(lines(caplog)) == MOST_PEERS + 1
    clock[0] += LOG_INTERVAL
    found.saw("node 10000", "junk")
    assert lines(caplog)[-1].startswith("node 10000 ")
