"""When ticks are due, with time wound by hand."""

import pytest

from zmqservices.timer.schedule import Schedule


def ticks(schedule, lasting, count, now=0.0):
    """When `count` ticks began; `lasting` are the seconds that the first ones take, the others take none."""
    began = []
    for _ in range(count):
        now += schedule.wait(now)
        began.append(round(now, 6))
        now += lasting.pop(0) if lasting else 0.0
        schedule.ticked(now)
    return began


def test_the_first_tick_comes_after_one_interval():
    assert ticks(Schedule(0.5, now=0.0), [], 3) == [0.5, 1.0, 1.5]


def test_an_eager_one_comes_at_once():
    assert ticks(Schedule(0.5, now=0.0, eager=True), [], 3) == [0.0, 0.5, 1.0]


def test_the_time_that_ticks_take_does_not_shift_the_schedule():
    assert ticks(Schedule(1.0, now=10.0), [0.3, 0.9, 0.5], 4, now=10.0) == [11.0, 12.0, 13.0, 14.0]


def test_semantic_47_missed_ticks_are_skipped():
    schedule = Schedule(0.1, now=0.0, eager=True)

    assert ticks(schedule, [0.35], 4) == [0.0, 0.4, 0.5, 0.6]


def test_semantic_47_missed_ticks_are_caught_up_where_that_is_asked_for():
    schedule = Schedule(0.1, now=0.0, eager=True, catches_up=True)

    assert ticks(schedule, [0.35], 6) == [0.0, 0.35, 0.35, 0.35, 0.4, 0.5]


def test_skipped_ticks_are_counted():
    schedule = Schedule(1.0, now=0.0)

    assert schedule.ticked(now=4.5) == 3
    assert schedule.due == 5.0


def test_one_that_is_due_when_the_last_ends_is_not_missed():
    schedule = Schedule(1.0, now=0.0)

    assert schedule.ticked(now=2.0) == 0
    assert schedule.wait(now=2.0) == 0.0


def test_without_an_interval_ticks_follow_each_other():
    assert ticks(Schedule(0.0, now=0.0), [0.3, 0.2], 4) == [0.0, 0.3, 0.5, 0.5]


@pytest.mark.parametrize("number", [1, 10, 1000, 1_000_000])
def test_long_schedules_do_not_drift(number):
    schedule = Schedule(0.1, now=0.0, catches_up=True)

    for _ in range(number - 1):
        schedule.ticked(now=0.0)

    assert schedule.due == pytest.approx(number * 0.1, rel=1e-12)
