"""How long a client waits for an overloaded engine: pure rules, no clock."""

import pytest

from discovery.client.patience import GROWTH, OVERDUE, USED, Patience, goes_on


@pytest.fixture
def patience():
    return Patience(3.0)


def test_each_overdue_answer_doubles_the_patience_up_to_a_bound(patience):
    waited = []
    for _ in range(6):
        waited.append(patience.seconds)
        patience.was_overdue()

    assert waited == [3.0, 6.0, 12.0, 24.0, 24.0, 24.0]
    assert patience.seconds == 3.0 * GROWTH
    assert patience.overdue == 6


def test_an_answer_halves_the_patience_down_to_the_first(patience):
    for _ in range(3):
        patience.was_overdue()

    waited = []
    for _ in range(4):
        patience.was_answered(0.1)
        waited.append(patience.seconds)

    assert waited == [12.0, 6.0, 3.0, 3.0]
    assert patience.overdue == 0


def test_a_slow_answer_keeps_the_patience_at_twice_its_time(patience):
    for _ in range(3):
        patience.was_overdue()

    patience.was_answered(8.0)
    assert patience.seconds == 16.0
    patience.was_answered(23.0)
    assert patience.seconds == 16.0, "an answer never makes it longer"


def test_pauses_are_a_random_part_of_the_patience(patience):
    assert patience.pause(lambda: 1.0) == 0.0, "nothing was overdue"

    patience.was_overdue()
    assert [patience.pause(lambda part=part: part) for part in (0.0, 0.5, 1.0)] == [0.0, 3.0, 6.0]

    patience.was_answered(1.0)
    assert patience.pause(lambda: 1.0) == 0.0


def test_a_session_with_the_only_server_outlives_some_overdue_renewals():
    assert [goes_on(overdue, 0.2, servers=1) for overdue in range(1, OVERDUE + 1)] == [True] * (OVERDUE - 1) + [False]


def test_a_session_ends_while_another_server_can_still_save_its_leases():
    assert not goes_on(1, 0.2, servers=2)
    assert not goes_on(1, USED, servers=1)
