"""Histograms of durations: what they tell, and that any two can be added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqservices.observability.histogram import BOUNDS, EXPORTED, Histogram

durations = st.floats(1e-6, 99.0)


def histogram_of(seconds):
    histogram = Histogram()
    for one in seconds:
        histogram.observe(one)
    return histogram


@given(st.lists(durations, min_size=1), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_known_to_six_percent(seconds, share):
    ordered = sorted(seconds)
    wanted = share * len(ordered)
    exact = next(value for rank, value in enumerate(ordered, 1) if rank >= wanted)

    assert histogram_of(seconds).quantile(share) == pytest.approx(exact, rel=0.065)


@given(st.lists(durations), st.lists(durations))
def test_the_sum_of_two_is_the_histogram_of_both(one, other):
    added = histogram_of(one)
    added.add(histogram_of(other))

    assert added.counts == histogram_of(one + other).counts
    assert added.count == len(one) + len(other)
    assert added.total == pytest.approx(sum(one) + sum(other))


@given(st.lists(durations))
def test_it_survives_a_trip_as_plain_values(seconds):
    histogram = histogram_of(seconds)

    there = Histogram.from_dict(histogram.to_dict())

    assert (there.counts, there.total) == (histogram.counts, histogram.total)


@given(st.lists(st.floats(0.0, 1000.0)))
def test_what_prometheus_is_told_counts_all_up_to_each_bound(seconds):
    assert histogram_of(seconds).exported() == [(bound, sum(one <= bound for one in seconds)) for bound in EXPORTED]


def test_none_have_no_quantile_and_those_above_all_bounds_have_the_highest():
    assert Histogram().quantile(0.5) is None
    assert histogram_of([1000.0]).quantile(0.5) == BOUNDS[-1]


@pytest.mark.parametrize("junk", [{}, {"total": 1}, {"total": "x", "counts": {}}, {"total": 1, "counts": {"999": 1}}, None])
def test_junk_is_refused(junk):
    with pytest.raises(ValueError, match=r"no histogram|could not convert"):
        Histogram.from_dict(junk)
