"""Probes are called for every call, and never affect a call."""

import logging
import timeit

import gevent
import pytest
from gevent.event import Event

from tests.hosting.stage import Call, Recorder, entry, entrypoint_of
from zmqservices.exceptions import WorkerCancelled
from zmqservices.probes import Probe, watching


class Notes(Probe):
    """Notes what it is told."""

    def __init__(self):
        self.seen = []

    def worker_started(self, worker_ctx):
        self.seen.append(("started", worker_ctx.entrypoint.method_name))

    def worker_result(self, worker_ctx, result, exc_info):
        self.seen.append(("result", result, exc_info and exc_info[0]))

    def worker_ended(self, worker_ctx, result, exc_info):
        self.seen.append(("ended", result, exc_info and exc_info[0]))

    def worker_dropped(self, worker_ctx, exc):
        self.seen.append(("dropped", type(exc)))


class Service:
    name = "service"
    recorder = Recorder()

    @entry
    def double(self, number):
        return number * 2

    @entry
    def fail(self):
        raise ValueError("no")


@pytest.fixture
def notes():
    return Notes()


def run(container, *args, **kwargs):
    """The call's outcome, once it is torn down."""
    call = Call(container, *args, **kwargs)
    call.outcome.get(timeout=30)
    container.pool.waitall()
    return call


def test_a_probe_is_called_for_each_step_of_a_call_in_order(make_container, notes):
    container = make_container(Service)

    with watching(container, notes):
        run(container, "double", 2)

    assert notes.seen == [("started", "double"), ("result", 4, None), ("ended", 4, None)]


def test_a_probe_gets_the_error_of_a_call(make_container, notes):
    container = make_container(Service)

    with watching(container, notes):
        run(container, "fail")

    assert notes.seen == [("started", "fail"), ("result", None, ValueError), ("ended", None, ValueError)]


def test_a_probe_gets_the_result_after_the_answer_left_and_before_providers(make_container):
    calls = []

    class Order(Probe):
        def worker_started(self, worker_ctx):
            calls.append("started")

        def worker_result(self, worker_ctx, result, exc_info):
            calls.append("probe")

        def worker_ended(self, worker_ctx, result, exc_info):
            calls.append("over")

    class Recorded:
        name = "recorded"
        recorder = Recorder("provider", calls)

        @entry
        def method(self):
            calls.append("method")

    container = make_container(Recorded)

    with watching(container, Order()):
        run(container, "method")

    assert [call if isinstance(call, str) else call[1] for call in calls] == [
        "started", "get", "setup", "method", "probe", "result", "teardown", "over",
    ]  # fmt: skip


def test_a_probe_gets_the_result_of_handle_result(make_container, notes):
    container = make_container(Service)

    with watching(container, notes):
        container.spawn_worker(
            entrypoint_of(container, "double"), (2,), {}, handle_result=lambda ctx, result, exc_info: ("replaced", None)
        )
        container.pool.waitall()

    assert notes.seen[1:] == [("result", "replaced", None), ("ended", "replaced", None)]


def test_a_probe_attached_while_a_call_ends_is_not_called_for_it(make_container, notes):
    entered, leave = Event(), Event()

    class SlowEnd(Recorder):
        def worker_teardown(self, worker_ctx):
            entered.set()
            leave.wait()

    class Slow:
        name = "slow"
        end = SlowEnd()

        @entry
        def method(self):
            pass

    container = make_container(Slow)
    Call(container, "method")
    assert entered.wait(30)

    with watching(container, notes):
        leave.set()
        container.pool.waitall()

    assert notes.seen == []


def test_a_probe_attached_while_a_method_runs_is_called_at_its_end(make_container, notes):
    entered, leave = Event(), Event()

    class Slow:
        name = "slow"

        @entry
        def method(self):
            entered.set()
            leave.wait()

    container = make_container(Slow)
    Call(container, "method")
    assert entered.wait(30)

    with watching(container, notes):
        leave.set()
        container.pool.waitall()

    assert notes.seen == [("result", None, None), ("ended", None, None)]


def test_a_probe_is_told_of_a_dropped_call(make_container, notes):
    container = make_container(Service)

    with watching(container, notes):
        call = Call(container, "double", 2, deadline=0.0)
        assert isinstance(call.error(), WorkerCancelled)

    assert notes.seen == [("dropped", WorkerCancelled)]


def test_an_error_of_a_probe_is_logged_and_does_not_affect_the_call(make_container, notes, caplog):
    class Bad(Probe):
        def worker_started(self, worker_ctx):
            raise RuntimeError("at the start")

        def worker_result(self, worker_ctx, result, exc_info):
            raise gevent.Timeout(1)

        def worker_ended(self, worker_ctx, result, exc_info):
            raise SystemExit(1)

    container = make_container(Service)

    with caplog.at_level(logging.ERROR), watching(container, Bad()), watching(container, notes):
        call = run(container, "double", 2)

    assert call.result() == 4
    assert len(notes.seen) == 3
    assert [record.message.split(" of ")[0] for record in caplog.records] == ["ignored an error"] * 3


def test_a_probe_does_not_swallow_the_cancellation_of_its_worker(make_container):
    entered = Event()

    class Blocking(Probe):
        def worker_started(self, worker_ctx):
            entered.set()
            gevent.sleep(1000)

    container = make_container(Service)

    with watching(container, Blocking()):
        call = Call(container, "double", 2)
        assert entered.wait(30)
        assert container.cancel(call.context, WorkerCancelled("enough"))

        assert isinstance(call.error(), WorkerCancelled)

    assert [seen for seen in Service.recorder.calls if seen[1] == "result"] == []


def test_a_detached_probe_is_not_called(make_container, notes):
    container = make_container(Service)
    container.attach(notes)
    container.detach(notes)

    run(container, "double", 2)

    assert notes.seen == []


def test_a_container_without_probes_only_pays_for_the_check(make_container):
    container = make_container(Service)
    looks = 100_000

    cost = min(timeit.repeat("container.probes", globals={"container": container}, number=looks, repeat=3)) / looks

    assert container.probes is None
    # Some tens of nanoseconds, of a call's tens of microseconds; the bound leaves room for a busy machine.
    assert cost < 2e-6
