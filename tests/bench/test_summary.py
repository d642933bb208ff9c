import math

from bench import summary
from bench.schedule import interleaved

from .results import line, rounds


def test_a_percentile_is_a_value_that_was_measured():
    values = list(range(1, 101))

    assert summary.percentile(values, 50) == 50
    assert summary.percentile(values, 99) == 99
    assert summary.percentile(values, 99.9) == 100
    assert summary.percentile([7.0], 99.9) == 7.0
    assert math.isnan(summary.percentile([], 50))


def test_latencies_need_no_order():
    found = summary.latencies([3.0, 1.0, 2.0])

    assert found["p50_us"] == 2.0
    assert found["max_us"] == 3.0
    assert found["mean_us"] == 2.0


def test_a_median_leaves_out_what_is_not_known():
    assert summary.median([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(summary.median([]))


def test_spread_is_the_whole_width_over_the_median():
    assert summary.spread([90.0, 100.0, 110.0]) == 0.2
    assert math.isnan(summary.spread([100.0]))


def test_ratios_are_taken_within_the_round():
    ours = {0: line("ours", 0, 50.0), 1: line("ours", 1, 100.0), 2: line("ours", 2, 9.0)}
    bare = {0: line("bare", 0, 100.0), 1: line("bare", 1, 200.0)}

    assert summary.ratios(ours, bare, "rate") == [0.5, 0.5]


def test_what_failed_is_told_once_and_never_averaged():
    failed = [{"kind": "rpc", "subject": "nats", "case": "64", "round": n, "failed": "no server"} for n in range(3)]
    lines = [*rounds("pyzmq", [1.0]), *failed]

    assert summary.failures(lines) == {"nats, 64": ["no server"]}
    assert set(summary.measured(lines)) == {("64", "pyzmq")}


def test_rounds_are_interleaved():
    order = list(interleaved(2, ["x", "y"], ["A", "B", "C"]))

    assert order == [
        (0, "x", "A"), (0, "x", "B"), (0, "x", "C"), (0, "y", "A"), (0, "y", "B"), (0, "y", "C"),
        (1, "x", "B"), (1, "x", "C"), (1, "x", "A"), (1, "y", "B"), (1, "y", "C"), (1, "y", "A"),
    ]  # fmt: skip
