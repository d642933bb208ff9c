"""`max_workers: auto`: calls beyond the limit are refused once a burst has lasted too long, and the limit follows the calls."""

from time import monotonic

import gevent
import pytest

from tests.stage import Gate, linked, until
from zmqservices.exceptions import Overloaded
from zmqservices.hosting import limited_workers
from zmqservices.resilience import concurrency
from zmqservices.resilience.concurrency import CALM, INITIAL
from zmqservices.rpc import rpc


@pytest.fixture(autouse=True)
def long_bursts(monkeypatch):
    """A burst may take as long as a busy machine needs for it."""
    monkeypatch.setattr(concurrency, "BURST", 600.0)


def gated():
    class Gated:
        name = "gated"
        gate = Gate()

        @rpc
        def held(self):
            self.gate()

        @rpc
        def fine(self):
            return "fine"

    return Gated


def begin(service, container, count):
    calls = [service.held.call_async() for _ in range(count)]
    until(lambda: container.admission.limit.inside == count)
    return calls


def test_more_calls_than_the_limit_are_a_burst_at_first_and_refused_then(serve, connect, monkeypatch):
    container = serve(gated(), max_workers="auto")
    service = linked(connect(rpc_retries_per_second=0).gated)
    calls = begin(service, container, INITIAL + 5)
    assert (container.pool.running(), container.pool.backlog()) == (INITIAL, 5)
    monkeypatch.setattr(concurrency, "BURST", 0.0)

    with pytest.raises(Overloaded, match=r"15 calls are under way; max_workers is auto, and 10 now for 'gated'"):
        service.fine()
    container.service_cls.gate.opened.set()
    for call in calls:
        call.result()

    assert service.fine() == "fine"
    until(lambda: container.admission.limit.inside == 0)


def test_a_call_that_is_given_up_while_it_waits_leaves(serve, connect):
    container = serve(gated(), max_workers="auto:3")
    service = linked(connect().gated)
    calls = begin(service, container, CALM + 2)

    for call in calls:
        call.cancel()

    until(lambda: container.admission.limit.inside == 0)
    container.service_cls.gate.opened.set()
    assert service.fine() == "fine"


def test_where_calls_do_not_disturb_each_other_the_limit_grows_and_is_told(serve, connect):
    class Waits:
        name = "waits"

        @rpc
        def fine(self):
            """For the first contact."""

        @rpc
        def wait(self):
            gevent.sleep(0.002)

    container = serve(Waits, max_workers="auto")
    service = linked(connect().waits)
    end = monotonic() + 60.0
    while container.pool.size <= INITIAL and monotonic() < end:
        for call in [service.wait.call_async() for _ in range(INITIAL)]:
            call.result()

    sizes = {measure.name: measure.value for measure in container.measure()}
    assert INITIAL < container.pool.size <= 100
    assert sizes["workers_max"] == container.pool.size


def test_a_smaller_pool_ends_the_workers_that_are_too_many(serve, connect):
    container = serve(gated(), max_workers="auto")
    service = linked(connect().gated)
    calls = begin(service, container, INITIAL)
    waits = [service.held.call_async() for _ in range(4)]
    until(lambda: container.pool.backlog() == 4)

    container.pool.size = 2
    container.service_cls.gate.opened.set()
    for call in [*calls, *waits]:
        call.result()
    until(lambda: container.pool.running() == 0)

    assert len(container.pool._parked) <= 2


def test_a_measurement_lets_few_run_and_refuses_nobody(serve, connect, monkeypatch):
    monkeypatch.setattr(limited_workers, "LONGEST_MEASUREMENT", 0.5)
    container = serve(gated(), max_workers="auto")
    service = linked(connect().gated)
    container.admission.limit._measure(monotonic())
    container.pool._resize()

    calls = [service.held.call_async() for _ in range(INITIAL)]

    until(lambda: container.pool.running() == CALM)
    until(lambda: container.pool.running() == INITIAL)  # It is over after a while, whatever runs.
    container.service_cls.gate.opened.set()
    for call in calls:
        call.result()
