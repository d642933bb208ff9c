"""Messages that leave together: when they are held, and when they are not."""

import pytest

from zmqservices.cluster.calls.cork import LONGEST_PAUSE, MOST, PAUSE_PER_LOSS, SLOW, Cork

#: What follows the slow jobs of these tests, which take twice SLOW, when they come now and then.
PAUSE = 2 * SLOW * PAUSE_PER_LOSS


class Poured:
    """What left, batch by batch."""

    def __init__(self):
        self.batches = []
        self.deferred = []
        self.now = 5.0
        self.cork = Cork(self.batches.append, self.deferred.append, lambda: self.now)

    def end(self, now):
        self.now = now
        self.cork.end()

    def end_turn(self):
        deferred, self.deferred[:] = list(self.deferred), []
        for callback in deferred:
            callback()

    def quick(self, items, now):
        """One batch of quick jobs, and what left when it was over."""
        before = len(self.batches)
        self.cork.begin(now)
        for item in items:
            if self.cork.is_in:
                self.cork.hold(item, now)
            else:
                self.batches.append([item])
        self.end(now)
        return self.batches[before:]


@pytest.fixture
def poured():
    return Poured()


def test_what_quick_jobs_send_leaves_together_and_in_order(poured):
    assert poured.quick("abc", 5.0) == [["a", "b", "c"]]
    assert not poured.cork.is_in


def test_nothing_leaves_if_nothing_was_held(poured):
    assert poured.quick("", 5.0) == []


def test_many_messages_leave_in_parts(poured):
    items = list(range(2 * MOST + 1))

    parts = poured.quick(items, 5.0)

    assert [len(part) for part in parts] == [MOST, MOST, 1]
    assert sum(parts, []) == items


def test_no_message_waits_for_many_medium_jobs_longer_than_for_a_slow_one(poured):
    cork = poured.cork
    cork.begin(5.0)
    for step in range(4):
        cork.hold(step, 5.0 + step * 0.6 * SLOW)
    poured.end(5.0 + 4 * 0.6 * SLOW)

    assert poured.batches == [[0, 1, 2], [3]]
    assert poured.quick("ab", 5.1) == [["a", "b"]]


def test_nothing_is_held_for_a_while_after_a_slow_job(poured):
    cork, now = poured.cork, 5.0
    cork.begin(now)
    cork.hold("first", now)
    later = now + 2 * SLOW
    cork.hold("second", later)

    assert poured.batches == [["first", "second"]]
    assert not cork.is_in
    poured.end(later)
    assert poured.quick("ab", later + PAUSE / 2) == [["a"], ["b"]]
    assert poured.quick("ab", later + 2 * PAUSE) == [["a", "b"]]


def test_a_slow_job_that_sends_nothing_counts_too(poured):
    cork = poured.cork
    cork.begin(5.0)
    cork.hold("first", 5.0)
    poured.end(5.0 + 2 * SLOW)

    assert poured.batches == [["first"]]
    assert poured.quick("ab", 5.0 + 2 * SLOW + PAUSE / 2) == [["a"], ["b"]]


def pauses(poured, now, times):
    """Seconds for which nothing is held after each of so many slow jobs, each of which comes as soon as it can."""
    found = []
    for _ in range(times):
        poured.cork.begin(now)
        poured.cork.hold("slow", now)
        now += 2 * SLOW
        poured.end(now)
        since = now
        while poured.quick("ab", now) != [["a", "b"]]:
            now += SLOW / 2
        found.append(now - since)
    return found


def test_repeated_slow_jobs_lengthen_the_time_without_holding(poured):
    found = pauses(poured, 5.0, 10)

    wanted = [min(PAUSE * 2**time, LONGEST_PAUSE) for time in range(10)]
    assert found == pytest.approx(wanted, abs=2 * SLOW)


@pytest.mark.parametrize("turn", [2, 16])
@pytest.mark.parametrize("job", [0.012, 0.05, 0.3, 2.0])
def test_few_of_many_long_jobs_delay_other_messages(job, turn):
    now, waited = 5.0, []

    def pour(since):
        waited.extend(now - each for each in since)

    deferred = []
    cork = Cork(pour, deferred.append, lambda: now)
    for _ in range(600 // turn):
        cork.begin(now)
        for _ in range(turn):
            now += job
            if cork.is_in or cork.join(now):
                cork.hold(now, now)
            else:
                waited.append(0.0)
        cork.end()
        while deferred:
            deferred.pop()()

    assert len(waited) == 600 // turn * turn
    assert sum(each > SLOW for each in waited) < 0.15 * len(waited)


def test_a_job_that_is_slow_now_and_then_costs_little(poured):
    for when in (5.0, 15.0, 25.0):
        assert pauses(poured, when, 1) == pytest.approx([PAUSE], abs=2 * SLOW)


def test_a_slow_job_before_the_first_message_delays_no_message(poured):
    poured.cork.begin(5.0)
    poured.cork.hold("a", 7.0)
    poured.cork.hold("b", 7.0)
    poured.end(7.0)

    assert poured.batches == [["a", "b"]]


def test_held_messages_can_be_sent_at_once(poured):
    poured.cork.begin(5.0)
    poured.cork.hold("a", 5.0)
    poured.cork.release()

    assert poured.batches == [["a"]]
    assert poured.cork.is_in


def test_held_messages_can_be_taken_back(poured):
    poured.cork.begin(5.0)
    poured.cork.hold("a", 5.0)

    assert poured.cork.take() == ["a"]
    poured.cork.hold("b", 5.0)
    poured.end(5.0)
    assert poured.batches == [["b"]]


def test_messages_of_a_turn_are_held_from_the_second_on(poured):
    cork = poured.cork
    assert not cork.join(5.0)
    for item in "ab":
        assert cork.join(5.0)
        cork.hold(item, 5.0)
    assert poured.batches == []

    poured.end_turn()

    assert poured.batches == [["a", "b"]]
    assert not cork.is_in
    assert not cork.join(5.1)


def test_a_single_message_of_a_turn_starts_no_holding(poured):
    for turn in range(3):
        assert not poured.cork.join(5.0 + turn)
        poured.end_turn()

    assert not poured.cork.is_in
    assert poured.batches == []


def test_a_batch_in_the_middle_of_a_turn_sends_the_messages_held_by_the_turn(poured):
    cork = poured.cork
    assert [cork.join(5.0), cork.join(5.0)] == [False, True]
    cork.hold("a", 5.0)

    assert poured.quick("bc", 5.0) == [["a", "b", "c"]]
    assert cork.join(5.0)
    cork.hold("d", 5.0)
    poured.end_turn()

    assert poured.batches == [["a", "b", "c"], ["d"]]


def test_after_a_slow_job_a_turn_holds_nothing_for_a_while(poured):
    cork = poured.cork
    assert [cork.join(5.0), cork.join(5.0)] == [False, True]
    cork.hold("a", 5.0)
    cork.hold("b", 5.0 + 2 * SLOW)
    poured.end_turn()

    assert poured.batches == [["a", "b"]]
    soon = 5.0 + 2 * SLOW + PAUSE / 2
    assert [cork.join(soon), cork.join(soon)] == [False, False]


def test_without_turns_no_messages_are_joined():
    cork = Cork([].append)

    assert [cork.join(5.0), cork.join(5.0)] == [False, False]
