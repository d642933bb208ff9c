"""An entrypoint's own `handle_result`: called for every kind of it, may change the outcome, and its failure is told."""

import gevent
import pytest
from gevent.event import AsyncResult, Event

from tests.stage import until
from zmqservices.events import EventHandler
from zmqservices.exceptions import RemoteError
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import Rpc
from zmqservices.standalone.events import event_dispatcher
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.services import entrypoint_waiter
from zmqservices.timer import Timer
from zmqservices.web.handlers import HttpRequestHandler
from zmqservices.web.websocket import WebSocketRpc


@pytest.fixture(autouse=True)
def bound_on_time():
    with gevent.Timeout(120):
        yield


class Seen(DependencyProvider):
    """Notes what providers are told."""

    def __init__(self, seen):
        self.seen = seen

    def worker_result(self, worker_ctx, result=None, exc_info=None):
        self.seen.append((result, exc_info and exc_info[0].__name__))


def doubles(base):
    """A subclass of an entrypoint: doubles what a method returned, makes a KeyError "none", and the text "fail" its own error."""

    class Doubling(base):
        def handle_result(self, message, worker_ctx, result, exc_info):
            if exc_info is not None and exc_info[0] is KeyError:
                return super().handle_result(message, worker_ctx, "none", None)
            if result == "fail":
                raise ValueError("not with me")
            if result == "late":
                super().handle_result(message, worker_ctx, "sent", exc_info)
                raise ValueError("too late to tell")
            if result == "own way":
                return "without super", None
            if result == "nothing":
                return None
            return super().handle_result(message, worker_ctx, result and result * 2, exc_info)

    return Doubling


def service_with(entrypoint, seen=()):
    class Echo:
        name = "echo"
        seen_ = Seen(seen)

        @entrypoint
        def say(self, what):
            if what == "raise":
                raise KeyError(what)
            return what

    return Echo


@pytest.fixture
def say(container_factory, cluster_config):
    """`say("ab")` by RPC to a service whose @rpc doubles; `say.seen` are the outcomes that providers were told."""
    seen = []
    container = container_factory(service_with(doubles(Rpc).decorator, seen), cluster_config)
    container.start()
    with ServiceRpcProxy("echo", cluster_config, timeout=10) as echo:

        def call(what):
            with entrypoint_waiter(container, "say"):
                return echo.say(what)

        call.seen, call.container = seen, container
        yield call


def test_23_an_override_of_rpc_changes_results_and_errors(say):
    assert say("ab") == "abab"
    assert say("raise") == "none"

    assert say.seen == [("abab", None), ("none", None)]


def test_23_its_failure_is_the_callers_answer_and_the_service_lives_on(say):
    with pytest.raises(RemoteError, match="not with me"):
        say("fail")
    with pytest.raises(RemoteError, match=r"returned None; \(result, exc_info\) is needed"):
        say("nothing")

    assert say("ab") == "abab"
    assert say.seen[:2] == [(None, "ValueError"), (None, "TypeError")]


def test_23_one_that_fails_once_the_answer_is_sent_is_told_to_providers_alone(say):
    assert say("late") == "sent"

    assert say.seen == [(None, "ValueError")]
    assert say("ab") == "abab"


def test_23_one_that_does_not_call_the_base_class_is_answered_with_what_it_returns(say):
    assert say("own way") == "without super"
    assert say.container.queued == 0


def test_23_every_call_is_accounted_for_whatever_the_override_does(say):
    for what in ("ab", "own way", "late"):
        say(what)
    with pytest.raises(RemoteError):
        say("fail")

    (server,) = {entrypoint.server for entrypoint in say.container.entrypoints}
    assert server._queued_bytes == 0


def test_23_calls_that_never_began_are_no_business_of_it(container_factory, cluster_config):
    heard, gate, inside = [], Event(), Event()

    class Noting(Rpc):
        def handle_result(self, message, worker_ctx, result, exc_info):
            heard.append(worker_ctx.args[0])
            return super().handle_result(message, worker_ctx, result, exc_info)

    class Slow:
        name = "slow"

        @Noting.decorator
        def wait(self, number):
            inside.set()
            gate.wait()
            return number

    container = container_factory(Slow, {**cluster_config, "max_workers": 1})
    container.start()
    with ServiceRpcProxy("slow", cluster_config, timeout=10) as slow:
        first = slow.wait.call_async(1)
        inside.wait()
        second = slow.wait.call_async(2)
        until(lambda: container.queued == 1)
        second.cancel()
        until(lambda: container.queued == 0)
        third = slow.wait.call_async(3)
        gate.set()
        assert (first.result(), third.result()) == (1, 3)

    assert heard == [1, 3]


def test_23_an_override_of_an_event_handler_decides_what_becomes_of_the_event(container_factory, cluster_config, tmp_path):
    tries, seen = [], []
    config = {**cluster_config, "JOURNAL_FOLDER": str(tmp_path), "events_backoff": 0.01}

    class Picky(EventHandler):
        def handle_result(self, message, worker_ctx, result=None, exc_info=None):
            tries.append(exc_info and exc_info[0].__name__)
            if len(tries) == 1:
                raise ValueError("not with me")
            return super().handle_result(message, worker_ctx, "taken", None)

    class Mails:
        name = "mails"
        seen_ = Seen(seen)

        @Picky.decorator("orders", "paid")
        def send(self, number):
            raise KeyError(number)

    container = container_factory(Mails, config)
    container.start()
    with entrypoint_waiter(container, "send", callback=lambda ctx, result, exc_info: result == "taken"):
        with event_dispatcher(config) as dispatch:
            dispatch("orders", "paid", 1)

    assert tries == ["KeyError", "KeyError"]
    assert seen == [(None, "ValueError"), ("taken", None)]


def test_23_an_override_of_a_timer_that_fails_keeps_it_going(container_factory):
    seen, third = [], Event()

    class Moody(Timer):
        def handle_result(self, worker_ctx, result, exc_info):
            if result == 1:
                raise ValueError("not with me")
            return (result * 10, None) if result == 2 else super().handle_result(worker_ctx, result, exc_info)

    class Clock:
        name = "clock"
        seen_ = Seen(seen)
        ticks = []

        @Moody.decorator(interval=0.002, eager=True)
        def tick(self):
            self.ticks.append(1)
            if len(self.ticks) == 4:
                third.set()
            return len(self.ticks)

    container_factory(Clock, {}).start()
    third.wait()

    assert seen[:3] == [(None, "ValueError"), (20, None), (3, None)]


def test_23_an_override_of_http(container_factory, web_config, web_session):
    seen = []
    decorator = doubles(HttpRequestHandler).decorator("GET", "/<what>")

    class Echo:
        name = "echo"
        seen_ = Seen(seen)

        @decorator
        def say(self, request, what):
            if what == "raise":
                raise KeyError(what)
            return what

    container = container_factory(Echo, web_config)
    container.start()

    texts = {}
    for what in ("ab", "raise", "own way", "late"):
        with entrypoint_waiter(container, "say"):
            texts[what] = web_session.get(f"/{what}").text
    assert texts == {"ab": "abab", "raise": "none", "own way": "without super", "late": "sent"}
    assert [web_session.get(f"/{what}").status_code for what in ("fail", "nothing", "ab")] == [500, 500, 200]
    assert seen[:5] == [("abab", None), ("none", None), ("without super", None), (None, "ValueError"), (None, "ValueError")]


def test_23_an_override_of_a_websocket_call(container_factory, web_config, websocket):
    decorator = doubles(WebSocketRpc).decorator

    class Echo:
        name = "echo"

        @decorator
        def say(self, socket_id, what):
            if what == "raise":
                raise KeyError(what)
            return what

    container_factory(Echo, web_config).start()
    socket = websocket()

    assert [socket.rpc("say", what=what) for what in ("ab", "raise", "own way", "late")] == [
        "abab", "none", "without super", "sent",
    ]  # fmt: skip
    for what in ("fail", "nothing"):
        with pytest.raises(RemoteError, match="ValueError" if what == "fail" else "TypeError"):
            socket.rpc("say", what=what)
    assert socket.rpc("say", what="ab") == "abab"


def test_23_an_override_may_wait_for_something(container_factory, cluster_config):
    asked = AsyncResult()

    class Waiting(Rpc):
        def handle_result(self, message, worker_ctx, result, exc_info):
            return super().handle_result(message, worker_ctx, result + asked.get(), exc_info)

    container_factory(service_with(Waiting.decorator), cluster_config).start()
    with ServiceRpcProxy("echo", cluster_config, timeout=10) as echo:
        call = echo.say.call_async("a")
        asked.set("b")
        assert call.result() == "ab"
