"""The last errors and the timeline of a process: few and short, whatever happens."""

import pytest

from zmqservices.observability.last_errors import LONGEST_TEXT, LONGEST_TRACEBACK, MOST_KEPT, LastErrors, shortened
from zmqservices.observability.statistics import MOST_SERIES, Statistics, caller_of
from zmqservices.observability.timeline import LONGEST_DETAIL, Timeline
from zmqservices.observability.timeline import MOST_KEPT as MOST_HAPPENINGS


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def raised(error):
    """The error, raised so that it has a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


def note(errors, error, method="place", type="ValueError"):
    return errors.note("orders", "i1", method, type, error, "orders.place.7")


def test_an_error_is_kept_with_its_text_its_call_and_its_traceback(clock):
    errors = LastErrors(clock)

    noted = note(errors, raised(ValueError("no such order")))

    assert list(errors) == [noted]
    assert (noted.at, noted.service, noted.method, noted.text) == (1000.0, "orders", "place", "no such order")
    assert noted.call_id == "orders.place.7"
    assert noted.traceback.splitlines()[-1] == "ValueError: no such order"
    assert "raise error" in noted.traceback


def test_one_entry_stands_for_all_errors_of_a_type_in_a_method(clock):
    errors = LastErrors(clock)

    note(errors, raised(ValueError("one")))
    note(errors, raised(KeyError("other")), type="KeyError")
    note(errors, raised(ValueError("two")))

    assert [one.text for one in errors] == ["'other'", "two"]


def test_errors_that_come_fast_share_one_traceback(clock):
    errors = LastErrors(clock)

    note(errors, raised(ValueError("one")))
    clock.now += 0.9
    second = note(errors, raised(ValueError("two")))
    clock.now += 0.2
    third = note(errors, raised(ValueError("three")))

    assert (second.text, second.at, second.traced_at) == ("two", 1000.9, 1000.0)
    assert second.traceback.endswith("ValueError: one")
    assert third.traceback.endswith("ValueError: three")


def test_a_clock_that_is_set_back_does_not_keep_an_old_traceback(clock):
    errors = LastErrors(clock)

    note(errors, raised(ValueError("one")))
    clock.now -= 3600

    assert note(errors, raised(ValueError("two"))).traceback.endswith("ValueError: two")


def test_few_errors_are_kept_and_the_oldest_go_first(clock):
    errors = LastErrors(clock)

    for number in range(MOST_KEPT + 5):
        note(errors, raised(ValueError(str(number))), method=f"method{number}")

    assert [one.text for one in errors] == [str(number) for number in range(5, MOST_KEPT + 5)]


def test_of_a_long_traceback_the_last_whole_lines_are_kept():
    lines = [f"  in line {number}" for number in range(1000)]

    cut = shortened("\n".join(lines)).splitlines()

    assert cut[0] == "[...]"
    assert cut[1:] == lines[-len(cut) + 1 :]
    assert len("\n".join(cut)) > 0.9 * LONGEST_TRACEBACK


def test_a_text_that_is_longer_than_a_traceback_may_be_is_cut(clock):
    noted = note(LastErrors(clock), raised(ValueError("x" * 100_000)))

    assert len(noted.text) == LONGEST_TEXT
    assert len(noted.traceback) <= LONGEST_TRACEBACK
    assert noted.traceback.endswith("xxx")


def test_an_error_whose_text_cannot_be_made_is_kept_all_the_same(clock):
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    noted = note(LastErrors(clock), raised(Broken()))

    assert noted.text == "[its text cannot be made: RuntimeError]"


def test_the_timeline_numbers_its_entries_and_keeps_the_last(clock):
    timeline = Timeline(clock)

    for number in range(MOST_HAPPENINGS + 10):
        timeline.add("listed", "orders", f"i{number}", "x" * 1000)

    kept = list(timeline)
    assert [one.number for one in kept] == list(range(11, MOST_HAPPENINGS + 11))
    assert kept[-1][1:5] == (1000.0, "listed", "orders", f"i{MOST_HAPPENINGS + 9}")
    assert len(kept[-1].detail) == LONGEST_DETAIL


class Ended:
    """An outgoing call that has ended, as probes see it."""

    moves = 0
    began_at = 0.0
    error = None

    def __init__(self, service, method, stack=None):
        self.service = service
        self.method = method
        self.headers = None if stack is None else {"call_id_stack": stack}


@pytest.mark.parametrize(
    ("stack", "caller"),
    [
        (None, ""), ([], ""), (["orders.place.9f2c-1"], "orders"),
        (["gateway.get.9f2c-1", "shop.orders.place.9f2c-2"], "shop.orders"),
        (["odd"], "odd"),
    ],
)  # fmt: skip
def test_the_caller_is_the_service_whose_method_made_the_call(stack, caller):
    assert caller_of(Ended("stock", "take", stack)) == caller


def test_a_flood_of_names_fills_no_memory():
    statistics = Statistics()

    for number in range(5 * MOST_SERIES):
        statistics.call_ended(Ended(f"service{number}", f"method{number}", [f"caller{number}.method.1"]))

    assert len(statistics.calls) <= 2 * MOST_SERIES + 1
    assert sum(outcomes.good.count for outcomes in statistics.calls.values()) == 5 * MOST_SERIES
