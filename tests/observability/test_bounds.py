"""What is told of a process stays small, however many groups, services and names there are."""

from types import SimpleNamespace

import pytest

from zmqservices.observability.logs import MOST_CALLED, SlowCalls
from zmqservices.observability.prometheus import _measured
from zmqservices.observability.snapshot import snapshot
from zmqservices.observability.statistics import MOST_SERIES, OTHER, Statistics
from zmqservices.observability.timeline import LONGEST_NAME, Timeline
from zmqservices.probes import Measure, Watched


class Groups(Watched):
    """A journal with more groups than are told apart: each has two events that wait, the last one the oldest."""

    COUNT = MOST_SERIES + 50

    def measure(self):
        for number in range(self.COUNT):
            labels = {"source": "orders", "group": f"g{number}", "journal": "j"}
            yield Measure("events_waiting", 2, labels)
            yield Measure("events_oldest_age", float(number), labels)


@pytest.fixture
def groups():
    groups = Groups()
    groups.watch()
    yield groups
    groups.unwatch()


def test_measures_beyond_a_bound_are_one_series_of_each_metric(groups):
    families = {family.name: family.samples for family in _measured()}

    for name, rest in (("zmqservices_events_waiting", 100), ("zmqservices_events_oldest_seconds", Groups.COUNT - 1)):
        others = [one.value for one in families[name] if set(one.labels.values()) == {OTHER}]
        assert (len(families[name]), others) == (MOST_SERIES + 1, [rest])
    assert sum(one.value for one in families["zmqservices_events_waiting"]) == 2 * Groups.COUNT


def test_groups_beyond_a_bound_are_one_row_of_stats(groups):
    rows = snapshot(Statistics(), [])["groups"]

    (rest,) = [one for one in rows if one["group"] == OTHER]
    assert (len(rows), rest["waiting"], rest["oldest_age"]) == (MOST_SERIES + 1, 100, Groups.COUNT - 1)
    assert sum(one["waiting"] for one in rows) == 2 * Groups.COUNT


def test_sources_beyond_a_bound_are_counted_together():
    statistics = Statistics()
    for number in range(MOST_SERIES + 50):
        statistics.event_dispatched(f"source{number}", "told", 0.001, None)

    assert len(statistics.dispatched) == MOST_SERIES + 1
    assert statistics.dispatched[OTHER, OTHER].good.count == 50


def test_a_worker_that_calls_without_end_is_remembered_by_methods():
    slow = SlowCalls(0.0)
    slow.worker_started(SimpleNamespace(call_id="shop.run.1"))
    for number in range(3 * MOST_CALLED):
        for service in ("stock", f"unknown{number}"):
            slow.call_ended(SimpleNamespace(
                headers={"call_id_stack": ["shop.run.1"]}, service=service, method="take", began_at=0.0
            ))  # fmt: skip

    assert len(slow._waits["shop.run.1"]) == MOST_CALLED + 1


def test_names_in_the_timeline_are_cut():
    timeline = Timeline()
    timeline.add("link up", "", "n" * 100_000)

    assert [len(one.instance) for one in timeline] == [LONGEST_NAME]


