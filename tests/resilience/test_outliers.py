"""Claims about which instances are ejected; time is an argument."""

from __future__ import annotations

import pytest

from zmqservices.resilience.balance import Load
from zmqservices.resilience.outliers import LONGEST_EJECTION, WINDOW, Health, OutlierRules, Outliers

RULES = OutlierRules(ejection=10.0, failures=5, error_rate=0.5, latency=10.0)


class Member:
    def __init__(self) -> None:
        self.load, self.health = Load(), Health()

    def fails(self, times: int, now: float) -> None:
        for _ in range(times):
            self.health.failed(self.load, now)

    def answers(self, times: int, now: float, latency: float = 0.01) -> None:
        for _ in range(times):
            self.load.saw("work", latency, 0, now)

    @property
    def is_ejected(self) -> bool:
        return bool(self.health.ejected_until)


@pytest.fixture
def members() -> list[Member]:
    return [Member() for _ in range(4)]


def test_failures_in_a_row_eject_an_instance(members: list[Member]) -> None:
    outliers = Outliers(RULES)
    members[0].fails(4, 100.0)
    assert not outliers.judge(members, 100.0).changes

    members[0].fails(1, 100.0)
    verdict = outliers.judge(members, 100.0)

    assert verdict.ejected == [members[0]]
    assert members[0].health.why == "5 calls in a row failed"


def test_an_answer_between_failures_begins_the_row_anew(members: list[Member]) -> None:
    outliers = Outliers(RULES)
    for second in range(9):
        members[0].fails(4, float(second * WINDOW * 2))
        members[0].answers(5, float(second * WINDOW * 2))
        assert not outliers.judge(members, float(second * WINDOW * 2)).changes


def test_an_instance_of_which_half_the_calls_fail_is_ejected(members: list[Member]) -> None:
    outliers = Outliers(RULES)
    for _ in range(10):
        members[0].fails(1, 100.0)
        members[0].answers(1, 100.0)
        members[1].fails(1, 100.0)
        members[1].answers(3, 100.0)

    assert outliers.judge(members, 100.0).ejected == [members[0]]
    assert members[0].health.why == "10 of 20 calls failed"


def test_an_instance_that_is_far_slower_is_ejected(members: list[Member]) -> None:
    outliers = Outliers(RULES)
    for _ in range(100):
        for member in members:
            member.answers(1, 100.0, 2.0 if member is members[0] else 0.05)

    assert outliers.judge(members, 100.0).ejected == [members[0]]
    assert members[0].health.why == "'work' takes 2 s there and 0.05 s elsewhere"


def test_one_slow_answer_is_no_reason_however_much_else_is_answered(members: list[Member]) -> None:
    outliers = Outliers(RULES)
    for member in members:
        member.answers(1 if member is members[0] else 100, 100.0, 0.6 if member is members[0] else 0.03)
    members[0].load.saw("other", 0.01, 0, 100.0)
    assert not outliers.judge(members, 100.0).changes

    members[0].answers(4, 100.0, 0.6)

    assert outliers.judge(members, 100.0).ejected == [members[0]]


@pytest.mark.parametrize(("latency", "is_ejected"), [(0.03, False), (0.6, True)])
def test_one_that_returns_is_measured_anew_before_it_counts_as_slow(
    members: list[Member], latency: float, is_ejected: bool
) -> None:
    outliers = Outliers(RULES)
    for member in members:
        member.answers(100, 100.0, 0.6 if member is members[0] else 0.03)
    assert outliers.judge(members, 100.0).ejected == [members[0]]
    assert outliers.judge(members, 110.0).restored == [members[0]]
    members[0].load.saw("other", 0.01, 0, 111.0)
    assert not outliers.judge(members, 111.0).changes

    members[0].answers(1, 112.0, latency)

    assert bool(outliers.judge(members, 112.0).ejected) is is_ejected


@pytest.mark.parametrize(("usual", "slow"), [(0.001, 0.09), (0.5, 4.0)])
def test_a_farther_one_or_a_somewhat_slower_one_is_not(members: list[Member], usual: float, slow: float) -> None:
    outliers = Outliers(RULES)
    for _ in range(100):
        for member in members:
            member.answers(1, 100.0, slow if member is members[0] else usual)

    assert not outliers.judge(members, 100.0).changes


def test_an_ejected_instance_returns_and_is_ejected_for_longer_when_it_fails_again(members: list[Member]) -> None:
    outliers, now, times = Outliers(RULES), 100.0, []
    for _ in range(LONGEST_EJECTION + 2):
        members[0].fails(5, now)
        assert outliers.judge(members, now).ejected == [members[0]]
        times.append(members[0].health.ejected_until - now)
        assert not outliers.judge(members, members[0].health.ejected_until - 0.1).changes
        now = members[0].health.ejected_until
        assert outliers.judge(members, now).restored == [members[0]]
        assert not members[0].is_ejected

    assert times == [10.0 * number for number in range(1, LONGEST_EJECTION + 1)] + [60.0, 60.0]


def test_an_instance_that_behaved_for_long_begins_with_a_short_ejection(members: list[Member]) -> None:
    outliers = Outliers(RULES)
    for now in (0.0, 10.0, 500.0):
        outliers.judge(members, now)
        members[0].fails(5, now)
        outliers.judge(members, now)

    assert members[0].health.ejected_until == 510.0


@pytest.mark.parametrize("count", range(1, 8))
def test_at_most_half_are_ejected(count: int) -> None:
    outliers, members = Outliers(RULES), [Member() for _ in range(count)]
    for member in members[: count // 2]:
        member.fails(5, 100.0)
        outliers.judge(members, 100.0)

    assert sum(member.is_ejected for member in members) == count // 2


@pytest.mark.parametrize("count", range(2, 8))
def test_when_more_than_half_fail_all_are_asked_for_a_while(count: int) -> None:
    outliers, members = Outliers(RULES), [Member() for _ in range(count)]
    for member in members[: count // 2 + 1]:
        member.fails(5, 100.0)
        verdict = outliers.judge(members, 100.0)

    assert verdict.panics
    assert not any(member.is_ejected for member in members)
    members[0].fails(20, 105.0)
    assert not outliers.judge(members, 105.0).changes
    assert outliers.judge(members, 110.0).ejected == [members[0]]


def test_the_only_instance_is_never_ejected() -> None:
    outliers, only = Outliers(RULES), Member()
    only.fails(100, 100.0)

    verdict = outliers.judge([only], 100.0)

    assert not verdict.changes and not verdict.panics


@pytest.mark.parametrize(
    "rules", [OutlierRules(0.0, 5, 0.5, 10.0), OutlierRules(10.0, 0, 0.0, 0.0)], ids=["no ejection", "no reason"]
)
def test_what_is_switched_off_ejects_nobody(members: list[Member], rules: OutlierRules) -> None:
    for _ in range(50):
        members[0].fails(1, 100.0)
        members[1].answers(1, 100.0, 0.001)
        members[2].answers(1, 100.0, 10.0)

    assert not Outliers(rules).judge(members, 100.0).changes
