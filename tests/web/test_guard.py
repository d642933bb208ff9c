"""How faults of clients are logged. The tests move the time themselves."""

import logging

import pytest

from zmqservices.web.guard import Guard, RateLimit


@pytest.fixture
def guard(caplog):
    caplog.set_level(logging.INFO)
    return Guard(logging.getLogger("guard"), "a message was refused")


def test_the_first_fault_is_logged_at_once(guard, caplog):
    guard.caught("10.0.0.1", ValueError("no"), now=0.0)

    assert caplog.messages == ["a message was refused (10.0.0.1): no"]


def test_further_faults_are_logged_together_a_minute_later(guard, caplog):
    for moment in range(61):
        guard.caught("10.0.0.1", ValueError(moment), now=float(moment))

    assert caplog.messages[1:] == ["a message was refused (10.0.0.1): 60 (59 others since the last such line)"]
    assert guard.count == 61


@pytest.mark.parametrize(
    "exc, told",
    [
        (ValueError("x" * 10_000), "x" * 300),
        (ValueError("a\nINFO forged\x1b[2J"), "a\\nINFO forged\\x1b[2J"),
        (ValueError(), "ValueError"),
        (type("Mute", (Exception,), {"__str__": lambda self: 1 // 0})(), "Mute"),
    ],
)
def test_a_log_entry_is_one_line_of_bounded_length(guard, caplog, exc, told):
    guard.caught("10.0.0.1", exc, now=0.0)

    assert caplog.messages == [f"a message was refused (10.0.0.1): {told}"]


def test_so_many_things_are_allowed_in_each_second():
    pace = RateLimit(2)

    assert [pace.allows(now) for now in (0.0, 0.5, 0.9, 1.0, 1.9, 1.9)] == [True, True, False, True, True, False]
