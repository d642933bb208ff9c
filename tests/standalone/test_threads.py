"""One client for a whole process: plain threads, greenlets of hubs, all at once; and what ends while they wait."""

import threading
from time import monotonic

import gevent
import pytest

from tests.stage import Aside, Gate, aside, make_words, until
from zmqservices.exceptions import (
    CallCancelled,
    MessageTooLarge,
    RemoteError,
    RpcTimeout,
    UnknownService,
    UnserializableValueError,
)
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ClusterRpcProxy
from zmqservices.wire.payloads import LARGE


@pytest.fixture
def words():
    return make_words()


def test_a_plain_thread_calls_and_waits(serve, connect, words):
    serve(words)
    cluster = connect()

    assert aside(cluster.words.echo, (1, b"x")) == (1, b"x")
    assert aside(cluster.words.echo, b"x" * 2 * LARGE) == b"x" * 2 * LARGE
    with pytest.raises(RemoteError, match="ValueError no"):
        aside(cluster.words.fail)


def test_many_threads_share_one_client(serve, connect, words):
    serve(words, max_workers=50)
    cluster = connect()

    def ask(number):
        for index in range(50):
            assert cluster.words.echo((number, index)) == (number, index)
        return number

    threads = [Aside(ask, number) for number in range(16)]

    assert [thread.get() for thread in threads] == list(range(16))


def test_threads_and_greenlets_share_one_client(serve, connect, words):
    serve(words, max_workers=50)
    cluster = connect()

    def ask(number):
        return [cluster.words.echo((number, index)) for index in range(30)]

    threads = [Aside(ask, number) for number in range(4)]
    greenlets = [gevent.spawn(ask, number) for number in range(4)]

    for number in range(4):
        expected = [(number, index) for index in range(30)]
        assert threads[number].get() == expected
        assert greenlets[number].get(timeout=30) == expected


def test_threads_with_hubs_of_their_own_share_it_too(serve, connect, words):
    serve(words, max_workers=50)
    cluster = connect()

    def ask_on_a_hub(number):
        greenlets = [gevent.spawn(cluster.words.echo, (number, index)) for index in range(10)]
        gevent.joinall(greenlets, raise_error=True)
        return [greenlet.value for greenlet in greenlets]

    threads = [Aside(ask_on_a_hub, number) for number in range(3)]

    for number, thread in enumerate(threads):
        assert thread.get() == [(number, index) for index in range(10)]


def test_fast_calls_do_not_wait_for_slow_ones_of_other_threads(serve, connect, words):
    serve(words)
    cluster = connect()
    slow = [Aside(cluster.words.wait) for _ in range(3)]
    words.gate.wait_for(3)

    for number in range(20):
        assert aside(cluster.words.echo, number) == number

    assert not any(thread.is_over for thread in slow)
    words.gate.open()
    assert [thread.get() for thread in slow] == ["waited"] * 3


def test_a_call_may_be_made_in_one_thread_and_collected_in_another(serve, connect, words):
    serve(words)
    cluster = connect()
    calls = aside(lambda: [cluster.words.echo.call_async(number) for number in range(10)])

    threads = [Aside(call.result) for call in reversed(calls)]

    assert [thread.get() for thread in threads] == list(reversed(range(10)))


def test_two_threads_may_wait_for_one_result(serve, connect, words):
    serve(words)
    cluster = connect()
    call = aside(cluster.words.wait.call_async)
    threads = [Aside(call.result) for _ in range(3)]
    words.gate.wait_for(1)
    gevent.sleep(0.05)

    words.gate.open()

    assert [thread.get() for thread in threads] == ["waited"] * 3


def test_threads_that_wait_for_one_result_all_go_on_while_another_thread_leads(serve, connect, words):
    class Slow:
        name = "slow"
        gate = Gate()

        @rpc
        def wait(self):
            self.gate()

    serve(words)
    serve(Slow)
    cluster = connect()
    leader = Aside(cluster.slow.wait)
    Slow.gate.wait_for(1)
    call = aside(cluster.words.wait.call_async)
    threads = [Aside(call.result) for _ in range(3)]
    until(lambda: len(call._caller.reactor._followers) == 3)

    words.gate.open()

    assert [thread.get(timeout=30) for thread in threads] == ["waited"] * 3
    assert not leader.is_over
    Slow.gate.open()
    leader.get()


def test_two_greenlets_may_wait_for_one_result(serve, connect, words):
    serve(words)
    call = connect().words.wait.call_async()
    greenlets = [gevent.spawn(call.result) for _ in range(3)]
    words.gate.wait_for(1)
    gevent.sleep(0)

    words.gate.open()

    assert [greenlet.get(timeout=30) for greenlet in greenlets] == ["waited"] * 3


def test_timeouts_are_on_time_whichever_thread_leads(serve, connect, words):
    serve(words)
    cluster = connect()
    cluster_in_thread = Aside(cluster.words.wait)
    words.gate.wait_for(1)

    def ask(timeout):
        began = monotonic()
        with pytest.raises(RpcTimeout):
            cluster.words.wait.with_timeout(timeout)()
        return monotonic() - began

    threads = {timeout: Aside(ask, timeout) for timeout in (0.05, 0.1, 0.2, 0.6)}
    took = {timeout: thread.get() for timeout, thread in threads.items()}
    words.gate.open()

    assert cluster_in_thread.get() == "waited"
    for timeout, seconds in took.items():
        assert timeout - 0.01 < seconds < timeout + 5.0
    assert aside(cluster.words.echo, "fine") == "fine"


def test_a_lone_thread_s_timeout_is_on_time(serve, connect, words):
    serve(words)
    cluster = connect()
    aside(cluster.words.echo, "fine")

    def ask():
        began = monotonic()
        with pytest.raises(RpcTimeout):
            cluster.words.wait.with_timeout(0.1)()
        return monotonic() - began

    assert 0.09 < aside(ask) < 5.0
    until(lambda: words.gate.ended == ["WorkerCancelled"])


def test_what_cannot_be_sent_is_told_to_the_thread_that_asked(serve, connect, words):
    serve(words)
    cluster = connect(max_message_size=10_000)
    leader = Aside(cluster.words.wait)
    words.gate.wait_for(1)

    with pytest.raises(UnserializableValueError):
        aside(cluster.words.echo, object())
    with pytest.raises(MessageTooLarge):
        aside(cluster.words.echo, b"x" * 20_000)
    with pytest.raises(UnknownService):
        aside(connect(rpc_wait_for_service=0.05).nobody.hello)
    words.gate.open()

    assert leader.get() == "waited"


# --- what ends while threads wait --------------------------------------------------------------------------


def test_stop_ends_the_calls_of_all_threads_at_once(serve, cluster_config, words):
    serve(words)
    client = ClusterRpcProxy({**cluster_config, "rpc_wait_for_service": 10})
    cluster = client.start()
    waiting = [Aside(cluster.words.wait) for _ in range(3)]
    waiting.append(Aside(cluster.nobody.hello))
    words.gate.wait_for(3)
    began = monotonic()

    aside(client.stop)

    for thread in waiting:
        with pytest.raises(CallCancelled, match="the client was stopped"):
            thread.get()
    assert monotonic() - began < 5
    until(lambda: words.gate.ended == ["WorkerCancelled"] * 3)
    with pytest.raises(RuntimeError, match="can no longer be used"):
        aside(cluster.words.echo, 1)


def test_stop_from_a_hub_ends_calls_of_plain_threads_and_the_other_way_round(serve, cluster_config, words):
    serve(words)
    client = ClusterRpcProxy(cluster_config)
    cluster = client.start()
    thread = Aside(cluster.words.wait)
    words.gate.wait_for(1)
    greenlet = gevent.spawn(cluster.words.wait)
    words.gate.wait_for(2)

    aside(client.stop)

    with pytest.raises(CallCancelled):
        thread.get()
    with pytest.raises(CallCancelled):
        greenlet.get(timeout=30)

    client = ClusterRpcProxy(cluster_config)
    cluster = client.start()
    thread = Aside(cluster.words.wait)
    until(lambda: words.gate.inside == 1)
    client.stop()
    with pytest.raises(CallCancelled):
        thread.get()


def test_threads_that_call_while_the_client_is_stopped_never_hang(serve, cluster_config, words):
    serve(words, max_workers=50)

    for _ in range(15):
        client = ClusterRpcProxy({**cluster_config, "rpc_wait_for_service": 10})
        cluster = client.start()
        outcomes = []

        def ask(cluster=cluster, outcomes=outcomes):
            try:
                while True:
                    cluster.words.echo(1)
                    cluster.words.echo.call_async(2).result()
            except (CallCancelled, RuntimeError) as exc:
                outcomes.append(exc)  # noqa: B023

        threads = [Aside(ask) for _ in range(6)]
        aside(cluster.words.echo, 1)
        gevent.sleep(0.005)
        aside(client.stop)
        for thread in threads:
            thread.get(timeout=30)

        assert len(outcomes) == 6
        for exc in outcomes:
            assert isinstance(exc, CallCancelled) or "stopped" in str(exc)


def test_a_client_in_a_thread_finds_the_next_instance_after_a_pause(serve, connect, words):
    cluster = connect()

    for number in range(4):
        container = serve(words, elsewhere=bool(number % 2))
        assert aside(cluster.words.echo, number) == number
        container.kill()


def test_a_client_in_a_thread_finds_a_service_that_came_back_on_its_port(serve, connect, words, free_port):
    cluster = connect()
    settings = {"BIND_ADDRESS": f"tcp://127.0.0.1:{free_port}"}

    for number in range(3):
        container = serve(words, **settings)
        assert aside(cluster.words.echo, number) == number
        container.kill()


def test_an_idle_client_collects_no_news(serve, connect, words):
    cluster = connect()
    serve(words)
    assert aside(cluster.words.echo, 1) == 1
    caller = aside(cluster._client._cluster.caller)

    class Other:
        name = "other"

        @rpc
        def hello(self):
            pass

    for _ in range(5):
        serve(Other, elsewhere=True).kill()

    assert len(caller.reactor._posted) <= 1
    assert aside(cluster.words.echo, 2) == 2


def test_each_thread_may_have_a_client_of_its_own(serve, cluster_config, words):
    serve(words, max_workers=50)

    def use(number):
        with ClusterRpcProxy(cluster_config) as cluster:
            return [cluster.words.echo((number, index)) for index in range(5)]

    threads = [Aside(use, number) for number in range(8)]

    for number, thread in enumerate(threads):
        assert thread.get() == [(number, index) for index in range(5)]


def test_the_result_of_a_greenlet_s_call_may_be_awaited_in_another_thread(serve, connect, words):
    serve(words)
    call = connect().words.wait.call_async()
    words.gate.wait_for(1)
    threads = [Aside(call.result) for _ in range(3)]
    until(lambda: len(call._caller.reactor._outsiders) == 3)

    words.gate.open()

    assert call.result() == "waited"
    assert [thread.get() for thread in threads] == ["waited"] * 3
    assert aside(call.result) == "waited"


def test_no_thread_is_left_behind(serve, cluster_config, words):
    serve(words)
    before = threading.active_count()

    def use():
        with ClusterRpcProxy(cluster_config) as cluster:
            cluster.words.echo(1)

    aside(use)

    until(lambda: threading.active_count() <= before)
