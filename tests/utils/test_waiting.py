"""Waiting until a condition holds; time is wound by hand."""

import pytest

from zmqservices.utils.waiting import wait_until


class World:
    """A clock and an event: each wait takes as long as it may, and then the next of `changes` happens."""

    def __init__(self, *changes):
        self.now = 100.0
        self.waits = []
        self.changes = list(changes)

    def clock(self):
        return self.now

    def clear(self):
        pass

    def wait(self, timeout):
        self.waits.append(timeout)
        seconds, change = self.changes.pop(0) if self.changes else (timeout, None)
        self.now += seconds
        if change is not None:
            change()


def test_a_condition_that_holds_is_not_waited_for():
    world = World()

    assert wait_until(lambda: True, world, 0.0, clock=world.clock)
    assert world.waits == []


def test_the_condition_is_checked_after_each_change():
    found = []
    world = World((1.0, lambda: found.append("one")), (2.0, lambda: found.append("two")))

    assert wait_until(lambda: len(found) == 2, world, 10.0, clock=world.clock)
    assert world.waits == [10.0, 9.0]


def test_the_wait_ends_with_its_time():
    world = World()

    assert not wait_until(lambda: False, world, 10.0, clock=world.clock)
    assert world.waits == [10.0]


def test_a_condition_that_becomes_true_as_time_runs_out_holds():
    world = World()

    assert wait_until(lambda: world.now >= 110.0, world, 10.0, clock=world.clock)


def test_with_an_interval_the_condition_is_checked_that_often():
    world = World()

    assert not wait_until(lambda: False, world, 0.25, interval=0.1, clock=world.clock)
    assert world.waits == pytest.approx([0.1, 0.1, 0.05])


def test_without_a_limit_only_a_change_ends_the_wait():
    found = []
    world = World((1e6, lambda: found.append("at last")))

    assert wait_until(lambda: bool(found), world, None, clock=world.clock)
    assert world.waits == [None]
