"""Injected proxies in native threads: a method hands work to the threadpool, and that calls on the method's behalf."""

import threading

import gevent
import pytest

from tests.stage import Aside, aside, make_words, until
from zmqservices.exceptions import CallCancelled, MethodNotFound, RemoteError
from zmqservices.rpc import RpcProxy, rpc


class Front:
    name = "front"
    words = RpcProxy("words")

    @rpc
    def aside(self, how, *args):
        """Do it in a thread of the threadpool, as a method would that computes there."""
        outcome = gevent.get_hub().threadpool.apply(self.outcome_of, (how, *args))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def outcome_of(self, how, *args):
        try:
            return getattr(self, how)(*args)
        except Exception as exc:
            return exc

    def call(self, value):
        return self.words.echo(value)

    def call_async(self, values):
        calls = [self.words.echo.call_async(value) for value in values]
        return [call.result() for call in calls]

    def on_a_hub_of_its_own(self, values):
        greenlets = [gevent.spawn(self.words.echo, value) for value in values]
        gevent.joinall(greenlets, raise_error=True)
        return [greenlet.value for greenlet in greenlets]

    def wait(self, timeout):
        return self.words.wait.with_timeout(timeout)()

    def unknown(self):
        return self.words.nothing()


@pytest.fixture
def words():
    return make_words()


@pytest.fixture
def front(serve, connect, words):
    serve(words, max_workers=50)
    serve(Front, max_workers=50)
    return connect().front


def test_a_native_thread_calls_through_an_injected_proxy(front):
    assert front.aside("call", (1, b"x")) == (1, b"x")
    assert front.aside("call_async", [1, 2, 3]) == [1, 2, 3]
    assert front.aside("on_a_hub_of_its_own", [1, 2, 3]) == [1, 2, 3]


def test_many_native_threads_call_beside_greenlets(front):
    calls = [front.aside.call_async("call_async", list(range(number, number + 20))) for number in range(8)]

    assert [call.result() for call in calls] == [list(range(number, number + 20)) for number in range(8)]


def test_a_native_thread_is_told_what_a_greenlet_would_be(front):
    with pytest.raises(MethodNotFound):
        front.aside("unknown")
    with pytest.raises(RemoteError, match="RpcTimeout"):
        front.aside("wait", 0.05)
    assert front.aside("call", "fine") == "fine"


def test_a_native_thread_that_waits_for_a_service_that_stops_is_let_go(serve, cluster_config, words):
    serve(words, elsewhere=True)
    container = serve(Front)
    proxy = _proxy_of(container)
    waiting = Aside(proxy.wait.with_timeout(None))
    words.gate.wait_for(1)

    container.kill()

    with pytest.raises(CallCancelled, match="stopped"):
        waiting.get()
    with pytest.raises(RuntimeError, match="stopped"):
        aside(proxy.echo, 1)


def test_a_thread_that_its_own_hub_waits_for_is_told_so_and_nothing_is_sent(serve, cluster_config, monkeypatch, words):
    serve(words)
    proxy = _proxy_of(serve(Front))
    proxy.echo(0)
    told = []

    def ask():
        try:
            proxy.wait.with_timeout(0.1)()
        except Exception as exc:
            told.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(30)  # Natively: the hub is blocked meanwhile.

    assert not thread.is_alive()
    assert isinstance(told[0], RuntimeError)
    assert "must do so with gevent" in str(told[0])
    gevent.sleep(0)
    assert proxy.echo(1) == 1
    assert words.gate.inside == 0


def test_a_callback_of_the_hub_is_told_that_it_cannot_wait(serve, cluster_config, words):
    serve(words)
    proxy = _proxy_of(serve(Front))
    proxy.echo(0)
    told = []

    def callback():
        try:
            proxy.echo(1)
        except RuntimeError as exc:
            told.append(str(exc))

    gevent.get_hub().loop.run_callback(callback)

    until(lambda: told)
    assert "gevent.spawn" in told[0]


def _proxy_of(container):
    """What a worker of it would have in its hands."""
    from zmqservices.testing.utils import get_extension

    return get_extension(container, RpcProxy).get_dependency(_Worker(container))


class _Worker:
    def __init__(self, container):
        self.container = container
        self.data = {}
        self.call_id_stack = ["test.1"]
        self.deadline = None
