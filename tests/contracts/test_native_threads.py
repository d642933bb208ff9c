"""What a native thread may expect of a proxy, whether it is a standalone client's or was injected into a service."""

from types import SimpleNamespace

import pytest

from tests.fixtures import bound_on_time, cluster, cluster_config, connect, registry_url, serve  # noqa: F401 (fixtures)
from tests.stage import Aside, aside, make_words, until
from zmqservices.exceptions import CallCancelled, MethodNotFound, UnserializableValueError
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.testing.utils import get_extension


class Front:
    name = "front"
    words = RpcProxy("words")

    @rpc
    def hello(self):
        pass


@pytest.fixture
def words():
    return make_words()


@pytest.fixture(params=["standalone", "injected"])
def proxy(request, serve, connect, words):  # noqa: F811
    """A proxy of the service `words`."""
    serve(words, max_workers=50)
    if request.param == "standalone":
        return connect().words
    container = serve(Front)
    worker = SimpleNamespace(container=container, data={}, call_id_stack=["test.1"], deadline=None)
    return get_extension(container, RpcProxy).get_dependency(worker)


def test_a_native_thread_calls_and_waits(proxy):
    assert aside(proxy.echo, (1, b"x")) == (1, b"x")
    assert aside(lambda: [call.result() for call in [proxy.echo.call_async(number) for number in range(3)]]) == [0, 1, 2]


def test_many_native_threads_share_one_proxy(proxy):
    def ask(number):
        return [proxy.echo((number, index)) for index in range(20)]

    threads = [Aside(ask, number) for number in range(8)]

    assert [thread.get() for thread in threads] == [[(number, index) for index in range(20)] for number in range(8)]


def test_a_native_thread_is_told_of_a_method_that_is_not_there(proxy):
    with pytest.raises(MethodNotFound):
        aside(proxy.nothing)


def test_a_native_thread_is_told_what_cannot_be_sent(proxy):
    with pytest.raises(UnserializableValueError):
        aside(proxy.echo, object())
    assert aside(proxy.echo, 1) == 1


def test_a_call_of_a_native_thread_is_given_up_from_another(proxy, words):
    call = aside(proxy.wait.call_async)
    waiting = Aside(call.result)
    words.gate.wait_for(1)

    aside(call.cancel)

    with pytest.raises(CallCancelled, match="was given up by its caller"):
        waiting.get()
    until(lambda: words.gate.ended == ["WorkerCancelled"])
