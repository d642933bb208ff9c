"""What was counted within a window, and how rows of several nodes are added."""

import pytest

from tests.dashboard.stage import answer, group, method, row
from zmqservices.dashboard.cluster_state import MALFORMED
from zmqservices.dashboard.counts import SPAN, Counted, Flow, Window, counted
from zmqservices.observability.histogram import Histogram

PLACE = ("method", "orders", "o1", "rpc", "place", "", "")


def orders(at, count, **options):
    return answer(at, [("orders", "o1", [method([0.01] * count)])], **options)


def window(*answers):
    made = Window()
    for one in answers:
        made.take(one)
    return made


def test_one_answer_tells_no_rate():
    made = window(orders(100.0, 5))

    assert (made.seconds, made.recent()) == (0.0, {})
    assert made.total()[PLACE].count == 5


def test_a_rate_is_the_difference_over_the_window():
    made = window(orders(100.0, 5), orders(102.0, 25))

    assert made.seconds == 2.0
    assert made.recent()[PLACE].count == 20


def test_a_window_is_as_long_as_the_span():
    made = window(*(orders(100.0 + second, second) for second in range(31)))

    assert made.seconds == SPAN
    assert made.recent()[PLACE].count == SPAN


@pytest.mark.parametrize("changed", [{"since": 2.0}, {"pid": 8}])
def test_counts_that_begin_anew_are_no_negative_rate(changed):
    made = window(orders(100.0, 500), orders(101.0, 3, **changed))

    assert (made.seconds, made.recent()) == (0.0, {})
    made.take(orders(102.0, 7, **changed))
    assert made.recent()[PLACE].count == 4


def test_a_clock_that_was_set_back_begins_a_new_window():
    made = window(orders(100.0, 5), orders(90.0, 6), orders(91.0, 8))

    assert (made.seconds, made.recent()[PLACE].count) == (1.0, 2)


def test_what_is_new_counts_in_full():
    made = window(answer(100.0), orders(101.0, 3))

    assert made.recent()[PLACE].count == 3


def test_quantiles_are_those_of_the_window():
    slow, fast = [1.0] * 50, [0.01] * 50
    made = window(
        answer(100.0, [("orders", "o1", [method(slow)])]), answer(101.0, [("orders", "o1", [method(slow + fast)])])
    )

    assert made.recent()[PLACE].quantile(0.99) == pytest.approx(0.01, rel=0.065)
    assert made.total()[PLACE].quantile(0.99) == pytest.approx(1.0, rel=0.065)


def test_errors_are_those_of_the_window():
    before = answer(100.0, [("orders", "o1", [method([0.1] * 3, {"KeyError": 2})])])
    after = answer(101.0, [("orders", "o1", [method([0.1] * 9, {"KeyError": 2, "ValueError": 4})])])

    recent = window(before, after).recent()[PLACE]

    assert (recent.count, recent.errors, recent.failed) == (6, {"ValueError": 4}, 4)


def test_flows_of_nodes_with_windows_of_different_length_are_added():
    flow = Flow()
    flow.add(Counted(10, {"KeyError": 5}), seconds=10.0)
    flow.add(Counted(8), seconds=2.0)

    assert (flow.rate, flow.error_rate) == (5.0, 0.5)


def test_a_group_with_several_journals_is_counted_once():
    rows = [group(acked=7), {**group(acked=7), "journal": "j2"}]

    assert counted(answer(1.0, groups=rows))["acked", "orders", "mails.send:placed"].count == 7


@pytest.mark.parametrize("broken", [
    {"instances": [{"service": "orders"}]}, {"calls": [{"count": "x"}]}, {"calls": [7]}, {"calls": None}, {"groups": [{}]},
    {"groups": [group(acked=float("inf"))]},
    {"calls": [{**row([0.1], caller="a", service="b", method="c"), "durations": {"counts": {"1000": 1}, "total": 1}}]},
    {"calls": [{**row([0.1], caller="a", service="b", method="c"), "durations": {"counts": {"-1": 1}, "total": 1}}]},
])  # fmt: skip
def test_an_answer_of_another_form_changes_nothing(broken):
    made = window(orders(100.0, 5), orders(101.0, 6))

    with pytest.raises(MALFORMED):
        made.take({**orders(102.0, 7), **broken})

    assert (made.seconds, made.recent()[PLACE].count) == (1.0, 1)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("durations", [[], [0.01], [0.001] * 99 + [5.0], [1e-9, 1e-6, 0.1, 1000.0], [2000.0]])
def test_a_quantile_is_that_of_a_histogram(durations, share):
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)

    assert Counted.read(row(durations)).quantile(share) == histogram.quantile(share)


def test_recent_counts_are_those_of_the_last_answer_however_often_they_are_asked_for():
    window = Window()
    for at, count in ((100.0, 1), (101.0, 3), (102.0, 6)):
        window.take(answer(at, [("orders", "o1", [method([0.01] * count)])]))
        counts = [sum(one.count for one in window.recent().values()) for _ in range(2)]
        assert counts == [count - 1 if count > 1 else 0] * 2
