"""Calls that their caller cancelled, or whose deadline has passed."""

from time import monotonic

import gevent
import pytest
from gevent.event import Event

from tests.hosting.stage import Call, Recorder, entry, entrypoint_of, run_in_hub, until
from zmqservices.exceptions import WorkerCancelled
from zmqservices.extensions import DependencyProvider


class Blocks(DependencyProvider):
    """A provider that blocks in a chosen hook until the test releases it."""

    def __init__(self, hook, may_go_on, reached):
        self.hook, self.may_go_on, self.reached = hook, may_go_on, reached

    def _block_in(self, hook):
        if hook == self.hook:
            self.reached.set()
            self.may_go_on.wait(30)

    def get_dependency(self, worker_ctx):
        self._block_in("get")

    def worker_setup(self, worker_ctx):
        self._block_in("setup")

    def worker_result(self, worker_ctx, result=None, exc_info=None):
        self._block_in("result")

    def worker_teardown(self, worker_ctx):
        self._block_in("teardown")


@pytest.fixture
def begun():
    return Event()


@pytest.fixture
def calls():
    return []


@pytest.fixture
def container(make_container, begun, calls):
    class Service:
        name = "service"
        recorder = Recorder(calls=calls)

        @entry
        def sleep(self):
            begun.set()
            gevent.sleep(1000)

        @entry
        def swallow(self):
            begun.set()
            try:
                gevent.sleep(1000)
            except WorkerCancelled:
                return "went on"

        @entry
        def quick(self):
            return "done"

    return make_container(Service, {"max_workers": 1})


def cancel(container, context, where, text="the caller left"):
    if where == "hub":
        return run_in_hub(lambda: container.cancel(context, WorkerCancelled(text)))
    return gevent.spawn(container.cancel, context, WorkerCancelled(text)).get(timeout=30)


@pytest.mark.parametrize("where", ["hub", "greenlet"])
def test_a_running_call_is_cancelled_where_it_waits_and_torn_down(container, begun, calls, where):
    call = Call(container, "sleep")
    assert begun.wait(30)

    assert cancel(container, call.context, where) is True

    assert isinstance(call.error(), WorkerCancelled)
    container.pool.waitall(30)
    assert calls[-2:] == [("recorder", "result", None, WorkerCancelled), ("recorder", "teardown")]
    assert Call(container, "quick").result() == "done"


@pytest.mark.parametrize("where", ["hub", "greenlet"])
def test_a_waiting_call_is_dropped_without_a_life_cycle(container, begun, calls, where):
    running = Call(container, "sleep")
    assert begun.wait(30)
    waiting = Call(container, "quick")
    del calls[:]

    assert cancel(container, waiting.context, where) is True

    assert isinstance(waiting.error(), WorkerCancelled)
    assert calls == []
    assert container.queued == 0
    cancel(container, running.context, where)


def test_a_call_that_is_over_cannot_be_cancelled(container):
    call = Call(container, "quick")
    call.result()
    container.pool.waitall(30)

    assert cancel(container, call.context, "hub") is False


def test_a_call_cancelled_twice_is_interrupted_once(container, begun):
    call = Call(container, "swallow")
    assert begun.wait(30)

    assert cancel(container, call.context, "hub") is True
    assert call.result() == "went on"


def test_the_interruption_does_not_reach_the_next_call_of_the_same_greenlet(container, begun):
    call = Call(container, "swallow")
    assert begun.wait(30)

    def cancel_twice():
        # From a greenlet the throwing is left to the hub, by when the call is over.
        container.cancel(call.context, WorkerCancelled("one"))

    gevent.spawn(cancel_twice)
    next_call = Call(container, "quick")

    assert call.result() == "went on"
    assert next_call.result() == "done"


@pytest.mark.parametrize("hook", ["get", "setup", "result", "teardown"])
def test_only_the_way_to_the_end_of_the_method_can_be_interrupted(make_container, hook):
    may_go_on, reached = Event(), Event()

    class Service:
        name = "service"
        blocks = Blocks(hook, may_go_on, reached)

        @entry
        def run(self):
            return "done"

    container = make_container(Service)
    call = Call(container, "run")
    assert reached.wait(30)

    is_cancelled = cancel(container, call.context, "hub")
    may_go_on.set()

    if hook in ("get", "setup"):
        assert is_cancelled and isinstance(call.error(), WorkerCancelled)
    else:
        assert not is_cancelled and call.result() == "done"


def test_an_answer_that_takes_its_time_is_not_interrupted(container):
    may_answer, answering = Event(), Event()
    answered = []

    def answer(worker_ctx, result, exc_info):
        answering.set()
        may_answer.wait(30)
        answered.append(result)
        return result, exc_info

    context = container.submit(entrypoint_of(container, "quick"), (), {}, handle_result=answer)
    assert answering.wait(30)

    assert cancel(container, context, "hub") is False
    may_answer.set()
    container.pool.waitall(30)
    assert answered == ["done"]


def test_a_worker_may_cancel_itself(make_container):
    class Service:
        name = "service"

        @entry
        def run(self):
            container.cancel(call.context, WorkerCancelled("of its own will"))
            gevent.sleep(1000)

    container = make_container(Service)
    call = Call(container, "run")

    assert str(call.error()) == "of its own will"


def test_a_running_call_is_cancelled_when_its_time_is_spent(container, begun):
    call = Call(container, "sleep", deadline=monotonic() + 0.02)
    assert begun.wait(30)

    assert str(call.error()) == "deadline exceeded in service.sleep"
    assert call.context.deadline < monotonic()


def test_a_waiting_call_is_dropped_when_its_time_is_spent(container, begun, calls):
    running = Call(container, "sleep")
    assert begun.wait(30)
    del calls[:]
    waiting = Call(container, "quick", deadline=monotonic() + 0.02)

    assert "before the method was started" in str(waiting.error())
    assert calls == []
    assert not running.is_answered


def test_a_call_that_arrives_after_its_deadline_is_not_begun(container, calls):
    call = Call(container, "quick", deadline=monotonic() - 1)

    assert "before the method was started" in str(call.error())
    assert calls == []


def test_a_method_that_swallows_its_cancellation_keeps_its_spent_deadline(container, begun):
    deadline = monotonic() + 0.02
    call = Call(container, "swallow", deadline=deadline)

    assert call.result() == "went on"
    assert call.context.deadline == deadline


def test_deadlines_are_checked_only_while_there_are_any(container):
    call = Call(container, "quick", deadline=monotonic() + 1000)
    assert container._deadlines._timer is not None
    assert call.result() == "done"

    until(lambda: container._deadlines._timer is None)


def test_an_answer_to_a_dropped_call_that_cannot_be_given_kills_the_container(container):
    def fail(worker_ctx, result, exc_info):
        raise ValueError("no way to answer")

    container.submit(entrypoint_of(container, "quick"), (), {}, handle_result=fail, deadline=monotonic() - 1)

    with pytest.raises(ValueError, match="no way to answer"):
        container.wait()


def test_a_context_that_was_never_submitted_cannot_be_cancelled(container):
    from zmqservices.containers import WorkerContext

    context = WorkerContext(container, None, entrypoint_of(container, "quick"))

    assert container.cancel(context, WorkerCancelled("nothing")) is False
