"""What happens around one call: injection, method, answer, teardown (semantics 13, 15, 17, 18, 21-24)."""

import gc
import logging
import weakref

import gevent
import pytest
from gevent.event import Event

from tests.hosting.stage import Call, Recorder, entry, entrypoint_of, until
from zmqservices.containers import ServiceContainer
from zmqservices.exceptions import WorkerCancelled
from zmqservices.extensions import DependencyProvider


class Failing(Recorder):
    """Fails in the hook that it is told to fail in."""

    def __init__(self, name, calls, failing, error=ValueError):
        super().__init__(name, calls)
        self.failing, self.error = failing, error

    def _fail_in(self, hook):
        if hook == self.failing:
            raise self.error(f"{self.name} failed in {hook}")

    def get_dependency(self, worker_ctx):
        self._fail_in("get")
        return super().get_dependency(worker_ctx)

    def worker_setup(self, worker_ctx):
        self._fail_in("setup")
        super().worker_setup(worker_ctx)

    def worker_result(self, worker_ctx, result=None, exc_info=None):
        self._fail_in("result")
        super().worker_result(worker_ctx, result, exc_info)

    def worker_teardown(self, worker_ctx):
        self._fail_in("teardown")
        super().worker_teardown(worker_ctx)


def three_providers(calls, failing=None, error=ValueError, method=lambda self: "done"):
    class Service:
        name = "service"
        a = Recorder("a", calls)
        b = Failing("b", calls, failing, error)
        c = Recorder("c", calls)

        @entry(expected_exceptions=KeyError)
        def run(self):
            calls.append(("method",))
            return method(self)

    return Service


def after(call, container):
    """The calls noted once the whole life of the worker is over."""
    call.outcome.wait(30)
    until(lambda: not container._worker_threads)


def test_21_the_order_of_a_workers_life(make_container):
    calls = []
    container = make_container(three_providers(calls))

    def answer(worker_ctx, result, exc_info):
        calls.append(("answer", result))
        return result, exc_info

    container.submit(entrypoint_of(container, "run"), (), {}, handle_result=answer)
    container.pool.waitall(30)

    assert calls == [
        *[(name, "get") for name in "abc"],
        *[(name, "setup") for name in "abc"],
        ("method",),
        ("answer", "done"),
        *[(name, "result", "done", None) for name in "cba"],
        *[(name, "teardown") for name in "cba"],
    ]


def test_21_the_answer_is_given_before_results_and_teardown(make_container):
    may_go_on = Event()

    class Slow(DependencyProvider):
        def worker_result(self, worker_ctx, result=None, exc_info=None):
            may_go_on.wait(30)

    class Service:
        name = "service"
        slow = Slow()

        @entry
        def run(self):
            return "done"

    container = make_container(Service)
    call = Call(container, "run")

    assert call.result() == "done"
    assert container.pool.running() == 1
    may_go_on.set()


def test_22_an_error_of_the_method_is_the_outcome_and_providers_get_it(make_container, caplog):
    calls = []
    container = make_container(three_providers(calls, method=lambda self: 1 / 0))
    call = Call(container, "run")

    with pytest.raises(ZeroDivisionError):
        call.result()
    after(call, container)

    assert calls[-6:] == [
        *[(name, "result", None, ZeroDivisionError) for name in "cba"],
        *[(name, "teardown") for name in "cba"],
    ]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert not container._died.ready()


def test_22_expected_errors_are_logged_as_warnings(make_container, caplog):
    def method(service):
        raise KeyError("unknown")

    container = make_container(three_providers([], method=method))
    call = Call(container, "run")
    after(call, container)

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "(expected) error" in caplog.text


def test_23_providers_get_the_result_of_handle_result(make_container):
    calls = []
    container = make_container(three_providers(calls))
    replaced = (ValueError, ValueError("replaced"), None)

    container.submit(
        entrypoint_of(container, "run"), (), {}, handle_result=lambda *outcome: ("other", replaced)
    )
    container.pool.waitall(30)

    assert ("a", "result", "other", ValueError) in calls


def test_24_the_instance_has_the_dependency_and_the_class_has_the_provider(make_container):
    class Service:
        name = "service"
        recorder = Recorder()

        @entry
        def run(self):
            return self.recorder

    container = make_container(Service)

    assert isinstance(Call(container, "run").result(), list)
    assert isinstance(Service.recorder, Recorder)


def test_24_every_call_has_its_own_instance(make_container):
    class Service:
        name = "service"

        def __init__(self):
            self.count = 0

        @entry
        def run(self):
            self.count += 1
            return self.count

    container = make_container(Service)

    assert [Call(container, "run").result() for _ in range(3)] == [1, 1, 1]


def test_positional_and_keyword_arguments_reach_the_method(make_container):
    class Service:
        name = "service"

        @entry
        def run(self, a, b=2, *, c=3):
            return a, b, c

    container = make_container(Service)

    assert Call(container, "run", 1, kwargs={"c": 5}).result() == (1, 2, 5)
    assert Call(container, "run", 1, kwargs=None).result() == (1, 2, 3)


@pytest.mark.parametrize(
    ("failing", "let_go"),
    [("get", ["a"]), ("setup", ["c", "b", "a"])],
)
def test_13_a_failing_provider_is_an_error_of_its_call_and_not_the_containers_end(
    make_container, failing, let_go
):
    calls = []
    container = make_container(three_providers(calls, failing))
    call = Call(container, "run")

    with pytest.raises(ValueError, match=f"b failed in {failing}"):
        call.result()
    after(call, container)

    assert ("method",) not in calls
    assert calls[-2 * len(let_go) :] == [
        *[(name, "result", None, ValueError) for name in let_go],
        *[(name, "teardown") for name in let_go],
    ]
    assert not container._died.ready()


@pytest.mark.parametrize("hook", ["result", "teardown"])
@pytest.mark.parametrize("error", [ValueError, gevent.Timeout])
def test_13_15_a_failing_hook_on_the_way_out_is_logged_and_the_others_are_still_called(
    make_container, caplog, hook, error
):
    calls = []
    make_error = (lambda text: error(None)) if error is gevent.Timeout else error
    container = make_container(three_providers(calls, hook, make_error))
    call = Call(container, "run")
    after(call, container)

    assert call.result() == "done"
    assert {name for name, *what in calls if what and what[0] == hook} == {"a", "c"}
    assert [one[1] for one in calls[-3:]].count("teardown") >= 2
    assert f"error in worker_{hook}" in caplog.text
    assert not container._died.ready()


def test_13_an_answer_that_cannot_be_given_kills_the_container(make_container):
    calls = []
    container = make_container(three_providers(calls))

    def fail(worker_ctx, result, exc_info):
        raise ValueError("no way to answer")

    container.submit(entrypoint_of(container, "run"), (), {}, handle_result=fail)

    with pytest.raises(ValueError, match="no way to answer"):
        container.wait()
    assert calls[-6:] == [
        *[(name, "result", None, ValueError) for name in "cba"],
        *[(name, "teardown") for name in "cba"],
    ]


def test_an_error_of_the_service_constructor_is_an_error_of_its_call(make_container):
    calls = []

    class Service(three_providers(calls)):
        def __init__(self):
            raise ValueError("not today")

    container = make_container(Service)
    call = Call(container, "run")

    with pytest.raises(ValueError, match="not today"):
        call.result()
    after(call, container)
    assert calls == []


def test_17_spawn_worker_makes_the_instance_at_once_and_blocks_while_all_workers_run(make_container):
    made = []
    may_end = Event()

    class Service:
        name = "service"

        def __init__(self):
            made.append(self)

        @entry
        def run(self):
            may_end.wait(30)

    container = make_container(Service, {"max_workers": 1})
    first = Call(container, "run", how="spawn_worker")
    second = gevent.spawn(Call, container, "run", how="spawn_worker")
    until(lambda: len(made) == 2)

    assert container.pool.free() == 0
    assert container.queued == 0
    assert not second.ready()
    may_end.set()
    assert first.result() is second.get(timeout=30).result() is None


def test_17_spawn_worker_raises_an_error_of_the_constructor(make_container):
    class Service(three_providers([])):
        def __init__(self):
            raise ValueError("not today")

    container = make_container(Service)

    with pytest.raises(ValueError, match="not today"):
        Call(container, "run", how="spawn_worker")
    assert container.pool.free() == 10


ODD = [gevent.Timeout(None, "late"), gevent.GreenletExit("bye"), WorkerCancelled("enough"), BaseException("odd")]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_18_whatever_a_method_raises_is_answered_and_torn_down(make_container, error):
    calls = []

    def method(service):
        raise error

    container = make_container(three_providers(calls, method=method), {"max_workers": 1})
    call = Call(container, "run")

    assert call.error() is error
    after(call, container)
    assert calls[-1] == ("a", "teardown")
    assert not container._died.ready()
    assert Call(container, "run").error() is error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_18_an_exit_is_answered_and_torn_down_and_then_ends_the_process(make_container, error):
    calls = []

    def method(service):
        raise error

    container = make_container(three_providers(calls, method=method))
    call = Call(container, "run")

    with pytest.raises(type(error)):
        gevent.sleep(5)

    assert call.error() is error
    assert calls[-1] == ("a", "teardown")
    until(lambda: not container._worker_threads)


class Probed(ServiceContainer):
    """Overrides the hooks of the life cycle, as tools of observation do."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = []

    def _inject_dependencies(self, worker_ctx):
        self.seen.append("inject")
        super()._inject_dependencies(worker_ctx)

    def _worker_setup(self, worker_ctx):
        self.seen.append("setup")
        super()._worker_setup(worker_ctx)

    def _worker_result(self, worker_ctx, result=None, exc_info=None):
        self.seen.append("result")
        super()._worker_result(worker_ctx, result, exc_info)

    def _worker_teardown(self, worker_ctx):
        self.seen.append("teardown")
        super()._worker_teardown(worker_ctx)
        raise ValueError("a failing probe is not felt")


def test_the_hooks_of_a_container_can_be_overridden(make_container):
    container = make_container(three_providers([]), container_cls=Probed)
    call = Call(container, "run")
    after(call, container)

    assert call.result() == "done"
    assert container.seen == ["inject", "setup", "result", "teardown"]


def test_the_hooks_of_a_container_can_be_replaced_while_it_runs(make_container, monkeypatch):
    container = make_container(three_providers([]))
    seen = []
    monkeypatch.setattr(container, "_worker_teardown", seen.append)
    call = Call(container, "run")
    after(call, container)

    assert seen == [call.context]


def test_providers_may_be_replaced_until_the_container_starts(make_container):
    calls = []
    container = make_container(three_providers([]), start=False)
    assert Call(container, "run").result() == "done"
    (old,) = (one for one in container.dependencies if one.attr_name == "b")
    new = Recorder("new", calls).bind(container, "b")
    container.dependencies.remove(old)
    container.dependencies.add(new)

    container.start()
    call = Call(container, "run")
    after(call, container)

    assert calls[0] == ("new", "get") and calls[-1] == ("new", "teardown")


def test_an_outcome_leaves_no_reference_cycles_behind(make_container, monkeypatch):
    class Weighty:
        pass

    weighty = []

    def method(service):
        thing = Weighty()
        weighty.append(weakref.ref(thing))
        raise ValueError("with a traceback")

    container = make_container(three_providers([], method=method))
    # Captured log records would keep the traceback.
    monkeypatch.setattr(logging.getLogger("zmqservices.hosting.lifecycle"), "disabled", True)
    gc.disable()
    try:
        container.submit(
            entrypoint_of(container, "run"), (), {}, handle_result=lambda *outcome: (None, None)
        )
        container.pool.waitall(30)

        assert weighty[0]() is None
    finally:
        gc.enable()
