"""Messages that leave together: when they are held, and when they are not."""

import pytest

from zmqservices.cluster.cork import MOST, OPEN_FOR, SLOW, Cork


class Poured:
    """What left, batch by batch."""

    def __init__(self):
        self.batches = []
        self.cork = Cork(self.batches.append)

    def quick(self, items, now):
        """One batch of quick jobs, and what left when it was over."""
        before = len(self.batches)
        self.cork.begin(now)
        for item in items:
            if self.cork.is_in:
                self.cork.hold(item, now)
            else:
                self.batches.append([item])
        self.cork.end(lambda: now)
        return self.batches[before:]


@pytest.fixture
def poured():
    return Poured()


def test_what_quick_jobs_send_leaves_together_and_in_order(poured):
    assert poured.quick("abc", 5.0) == [["a", "b", "c"]]
    assert not poured.cork.is_in


def test_nothing_leaves_where_nothing_was_held(poured):
    assert poured.quick("", 5.0) == []


def test_many_leave_in_parts(poured):
    items = list(range(2 * MOST + 1))

    parts = poured.quick(items, 5.0)

    assert [len(part) for part in parts] == [MOST, MOST, 1]
    assert sum(parts, []) == items


def test_nobody_waits_longer_than_a_slow_job_takes_for_many_that_are_not_quite_slow(poured):
    cork = poured.cork
    cork.begin(5.0)
    for step in range(4):
        cork.hold(step, 5.0 + step * 0.6 * SLOW)
    cork.end(lambda: 5.0 + 4 * 0.6 * SLOW)

    assert poured.batches == [[0, 1, 2], [3]]
    assert poured.quick("ab", 5.1) == [["a", "b"]]


def test_after_a_slow_job_nothing_is_held_for_a_while(poured):
    cork, now = poured.cork, 5.0
    cork.begin(now)
    cork.hold("first", now)
    later = now + 2 * SLOW
    cork.hold("second", later)

    assert poured.batches == [["first", "second"]]
    assert not cork.is_in
    cork.end(lambda: later)
    assert poured.quick("ab", later + OPEN_FOR / 2) == [["a"], ["b"]]
    assert poured.quick("ab", later + 2 * OPEN_FOR) == [["a", "b"]]


def test_a_slow_job_that_sends_nothing_counts_too(poured):
    cork = poured.cork
    cork.begin(5.0)
    cork.hold("first", 5.0)
    cork.end(lambda: 5.0 + 2 * SLOW)

    assert poured.batches == [["first"]]
    assert poured.quick("ab", 5.1) == [["a"], ["b"]]


def test_a_slow_job_before_the_first_message_delays_nobody(poured):
    poured.cork.begin(5.0)
    poured.cork.hold("a", 7.0)
    poured.cork.hold("b", 7.0)
    poured.cork.end(lambda: 7.0)

    assert poured.batches == [["a", "b"]]


def test_what_is_held_can_be_let_go_at_once(poured):
    poured.cork.begin(5.0)
    poured.cork.hold("a", 5.0)
    poured.cork.release()

    assert poured.batches == [["a"]]
    assert poured.cork.is_in
