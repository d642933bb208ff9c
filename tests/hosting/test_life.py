"""Starting, stopping and killing a container (semantics 9-16)."""

import gevent
import pytest
from gevent.event import Event

from tests.hosting.stage import Call, Entry, Recorder, entry, entrypoint_of, until
from zmqservices.exceptions import ContainerBeingKilled
from zmqservices.extensions import DependencyProvider, Entrypoint, Extension, ProviderCollector, SharedExtension


class Steps(list):
    """The steps that happened, in order."""

    def note(self, who, what):
        self.append((who, what))

    def last(self, what):
        return max(place for place, step in enumerate(self) if step[1] == what)

    def first(self, what):
        return min(place for place, step in enumerate(self) if step[1] == what)


class Noted(Extension):
    """Notes each of its hooks; lets the loop turn in between, so that order is not luck."""

    def __init__(self, steps, who="extension", failing=()):
        self.steps, self.who, self.failing = steps, who, failing

    def _note(self, what):
        self.steps.note(self.who, f"{what} begins")
        gevent.sleep(0)
        if what in self.failing:
            raise ValueError(f"{self.who} failed in {what}")
        self.steps.note(self.who, what)

    def setup(self):
        self._note("setup")

    def start(self):
        self._note("start")

    def stop(self):
        self._note("stop")

    def kill(self):
        self._note("kill")


class NotedProvider(Noted, DependencyProvider):
    def __init__(self, steps, who="dependency", failing=()):
        Noted.__init__(self, steps, who, failing)
        self.inner = Noted(steps, "inner")


class NotedEntrypoint(Noted, Entrypoint):
    def __init__(self, steps, who="entrypoint", failing=()):
        Entrypoint.__init__(self)
        Noted.__init__(self, steps, who, failing)


def service_with(steps, failing=(), method=lambda self: None):
    class Service:
        name = "service"
        dependency = NotedProvider(steps, failing=failing)

    def run(self):
        return method(self)

    Service.run = NotedEntrypoint.decorator(steps)(run)
    return Service


def test_9_every_setup_ends_before_any_start_and_setups_run_in_parallel(make_container):
    steps = Steps()

    make_container(service_with(steps))

    assert steps.last("setup") < steps.first("start begins")
    assert steps.first("setup") > steps.last("setup begins")
    assert {who for who, what in steps if what == "start"} == {"entrypoint", "dependency", "inner"}


def test_9_start_raises_an_error_of_setup_and_stops_nothing(make_container):
    steps = Steps()
    container = make_container(service_with(steps, failing=("setup",)), start=False)

    with pytest.raises(ValueError, match="dependency failed in setup"):
        container.start()

    assert container.started
    assert not container._died.ready()
    assert not {"start", "stop", "kill"} & {what for _, what in steps}


def test_10_entrypoints_stop_then_workers_end_then_dependencies_stop_then_the_others(make_container):
    steps = Steps()
    may_end = Event()

    def method(service):
        steps.note("worker", "begins")
        may_end.wait(30)
        steps.note("worker", "ends")
        return "done"

    container = make_container(service_with(steps, method=method))
    call = Call(container, "run")
    until(lambda: ("worker", "begins") in steps)
    stopping = gevent.spawn(container.stop)
    until(lambda: ("entrypoint", "stop") in steps)
    may_end.set()
    stopping.get(timeout=30)

    order = [step for step in steps if step[1] in ("stop", "ends")]
    assert order == [("entrypoint", "stop"), ("worker", "ends"), ("dependency", "stop"), ("inner", "stop")]
    assert call.result() == "done"
    assert container.wait() is None
    assert not container.started


def test_10_calls_that_wait_for_a_worker_are_run_before_dependencies_stop(make_container):
    steps = Steps()
    container = make_container(service_with(steps, method=lambda self: gevent.sleep(0)), {"max_workers": 1})
    calls = [Call(container, "run") for _ in range(5)]

    container.stop()

    assert all(call.is_answered for call in calls)
    assert container.queued == 0


def test_10_remaining_managed_threads_are_killed(make_container):
    ended = Event()

    def run_for_ever():
        try:
            gevent.sleep(1000)
        finally:
            ended.set()

    container = make_container(service_with(Steps()))
    thread = container.spawn_managed_thread(run_for_ever)
    gevent.sleep(0)

    container.stop()

    assert ended.is_set() and thread.dead
    assert not container._managed_threads


def test_10_workers_that_outlast_the_drain_timeout_are_cancelled(make_container):
    calls = []

    class Service:
        name = "service"
        dependency = Recorder(calls=calls)

        @entry
        def run(self):
            gevent.sleep(1000)

    container = make_container(Service, {"drain_timeout": 0.02})
    call = Call(container, "run")
    until(lambda: container._worker_threads)

    container.stop()

    assert "stopping" in str(call.error())
    assert calls[-1] == ("recorder", "teardown")


def test_10_an_extension_that_fails_to_stop_keeps_nothing_else_from_stopping(make_container):
    steps = Steps()
    container = make_container(service_with(steps, failing=("stop",)))

    with pytest.raises(ValueError, match="dependency failed in stop"):
        container.stop()

    assert ("inner", "stop") in steps
    assert container.wait() is None


def test_11_stopping_or_killing_a_container_that_has_ended_does_nothing(make_container):
    steps = Steps()
    container = make_container(service_with(steps))
    container.stop()
    del steps[:]

    container.stop()
    container.kill()

    assert steps == []


def test_11_stop_waits_for_a_kill_under_way_and_does_not_raise_its_error(make_container):
    may_die = Event()

    class Slow(DependencyProvider):
        def kill(self):
            may_die.wait(30)

    class Service:
        name = "service"
        slow = Slow()

    container = make_container(Service)
    killing = gevent.spawn(container.kill, (ValueError, ValueError("the cause"), None))
    until(lambda: container._being_killed)
    stopping = gevent.spawn(container.stop)
    gevent.sleep(0)
    assert not stopping.ready()
    may_die.set()
    gevent.joinall([killing, stopping], timeout=30, raise_error=True)

    with pytest.raises(ValueError, match="the cause"):
        container.wait()


def test_11_a_second_stop_waits_for_the_first(make_container):
    steps = Steps()
    container = make_container(service_with(steps))

    gevent.joinall([gevent.spawn(container.stop) for _ in range(2)], timeout=30, raise_error=True)

    assert steps.count(("dependency", "stop")) == 1


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_11_a_container_that_never_started_can_be_stopped_and_killed(make_container, how):
    container = make_container(service_with(Steps()), start=False)

    getattr(container, how)()

    assert container.wait() is None


def test_12_kill_takes_entrypoints_then_workers_then_all_extensions_then_threads(make_container):
    steps = Steps()

    def method(service):
        try:
            gevent.sleep(1000)
        finally:
            steps.note("worker", "ends")

    container = make_container(service_with(steps, method=method))
    thread = container.spawn_managed_thread(lambda: gevent.sleep(1000))
    thread.rawlink(lambda _: steps.note("thread", "ends"))
    call = Call(container, "run")
    until(lambda: container._worker_threads)
    del steps[:]

    container.kill()

    order = [step for step in steps if not step[1].endswith("begins")]
    assert order[:2] == [("entrypoint", "kill"), ("worker", "ends")]
    assert sorted(order[2:-1]) == [("dependency", "kill"), ("entrypoint", "kill"), ("inner", "kill")]
    assert order[-1] == ("thread", "ends")
    assert not call.is_answered


def test_12_providers_are_not_called_for_a_killed_worker(make_container):
    calls = []

    class Service:
        name = "service"
        dependency = Recorder(calls=calls)

        @entry
        def run(self):
            gevent.sleep(1000)

    container = make_container(Service)
    Call(container, "run")
    until(lambda: container._worker_threads)

    container.kill()

    assert [call[1] for call in calls] == ["get", "setup"]
    assert not container._worker_threads


def test_12_an_extension_whose_kill_fails_does_not_stop_the_others(make_container, caplog):
    steps = Steps()
    container = make_container(service_with(steps, failing=("kill",)))

    container.kill()

    assert ("inner", "kill") in steps
    assert "dependency failed in kill" in caplog.text
    assert container.wait() is None


def test_12_calls_that_have_not_begun_are_answered_when_the_container_is_killed(make_container):
    container = make_container(
        service_with(Steps(), method=lambda self: gevent.sleep(1000)), {"max_workers": 1}
    )
    running, waiting = Call(container, "run"), Call(container, "run")
    until(lambda: container._worker_threads)

    container.kill()

    assert isinstance(waiting.error(), ContainerBeingKilled)
    assert not running.is_answered


def test_12_a_worker_that_ignores_its_end_does_not_delay_the_kill(make_container, monkeypatch):
    monkeypatch.setattr("zmqservices.hosting.workers.KILL_GRACE", 0.01)
    may_end = Event()

    def method(service):
        try:
            gevent.sleep(1000)
        finally:
            may_end.wait(30)

    container = make_container(service_with(Steps(), method=method))
    Call(container, "run")
    until(lambda: container._worker_threads)

    container.kill()

    assert container._died.ready()
    may_end.set()
    until(lambda: not container._worker_threads)


def test_12_a_worker_may_kill_its_own_container(make_container):
    container = make_container(service_with(Steps(), method=lambda self: kill()))

    def kill():
        container.kill()

    Call(container, "run")

    assert container.wait() is None
    until(lambda: not container._worker_threads)


def test_13_a_failing_managed_thread_kills_the_container_and_wait_raises_its_error(make_container, caplog):
    steps = Steps()
    container = make_container(service_with(steps))

    def fail():
        raise ValueError("thread failed")

    thread = container.spawn_managed_thread(fail, identifier="the failing one")

    with pytest.raises(ValueError, match="thread failed"):
        container.wait()
    with pytest.raises(ValueError, match="thread failed"):
        thread.get(timeout=30)
    assert ("dependency", "kill") in steps
    assert "the failing one" in caplog.text


def test_a_managed_thread_gives_its_result_and_is_forgotten(make_container):
    container = make_container(service_with(Steps()))

    thread = container.spawn_managed_thread(lambda: 42)

    assert thread in container._managed_threads
    assert thread.get(timeout=30) == thread.wait() == 42
    assert not container._managed_threads


def test_a_killed_managed_thread_does_not_end_the_container(make_container):
    container = make_container(service_with(Steps()))
    thread = container.spawn_managed_thread(lambda: gevent.sleep(1000))
    gevent.sleep(0)

    thread.kill(timeout=30)

    assert not container._died.ready()
    assert not container._managed_threads


def test_14_of_several_failing_threads_the_first_is_the_cause(make_container):
    steps = Steps()
    container = make_container(service_with(steps))

    def fail(text):
        raise ValueError(text)

    for number in range(3):
        container.spawn_managed_thread(lambda number=number: fail(f"failure {number}"))

    with pytest.raises(ValueError, match="failure 0"):
        container.wait()
    assert steps.count(("dependency", "kill")) == 1


@pytest.mark.parametrize("how", ["submit", "spawn_worker"])
def test_16_no_call_is_taken_once_the_container_is_killed(make_container, how):
    container = make_container(service_with(Steps()))
    container.kill()

    with pytest.raises(ContainerBeingKilled):
        getattr(container, how)(entrypoint_of(container, "run"), (), {})


@pytest.mark.parametrize("how", ["submit", "spawn_worker"])
def test_16_after_a_graceful_stop_calls_still_run(make_container, how):
    container = make_container(service_with(Steps(), method=lambda self: "ran"))
    container.stop()

    assert Call(container, "run", how=how).result() == "ran"


def test_waiting_is_no_error_while_nothing_else_runs(make_container):
    container = make_container(type("Service", (), {"name": "service"}))
    waiting = gevent.spawn(container.wait)
    gevent.sleep(0)

    container.stop()

    assert waiting.get(timeout=30) is None


class Collector(ProviderCollector, SharedExtension):
    pass


class Served(Entry):
    collector = Collector()

    def setup(self):
        self.collector.register_provider(self)

    def stop(self):
        gevent.sleep(0)
        self.collector.unregister_provider(self)


def test_a_collector_stops_when_its_last_provider_has_left(make_container):
    class Service:
        name = "service"

        @Served.decorator
        def one(self): ...

        @Served.decorator
        def other(self): ...

    container = make_container(Service)
    collector = container.shared_extensions[Collector]
    stopping = gevent.spawn(collector.stop)
    gevent.sleep(0)
    assert not stopping.ready()

    container.stop()

    stopping.get(timeout=30)


def test_a_collector_without_providers_stops_at_once():
    collector = Collector()

    collector.wait_for_providers()
    collector.unregister_provider("unknown")
    collector.stop()


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_container_that_ends_during_its_setup_does_not_start(make_container, end):
    steps, gate = Steps(), Event()

    class Slow(Noted):
        def setup(self):
            gate.wait()
            super().setup()

    class SlowProvider(Slow, DependencyProvider):
        pass

    class Service:
        name = "service"
        provider = SlowProvider(steps, "provider")

    container = make_container(Service, start=False)
    starting = gevent.spawn(container.start)
    gevent.sleep(0)

    getattr(container, end)()
    gate.set()

    with pytest.raises(ContainerBeingKilled, match="service was stopped while it was starting"):
        starting.get(timeout=30)
    assert ("provider", "start") not in steps
    assert steps[-1] == ("provider", "kill")
