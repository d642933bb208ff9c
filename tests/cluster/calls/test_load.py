"""Many calls and few workers: queues, their bounds, and calls of a service to itself."""

import gc
from time import monotonic

import gevent
import pytest

from tests.stage import Gate, linked, until
from zmqservices.cluster.calls.call import PendingCall
from zmqservices.cluster.calls.incoming import IncomingCall
from zmqservices.exceptions import ConfigurationError, Overloaded, RemoteError, RpcTimeout
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.worker_context import WorkerContext


@pytest.fixture
def gated():
    class Gated:
        name = "gated"
        gate = Gate()

        @rpc
        def wait(self, number=0):
            self.gate()
            return number

    return Gated


def test_39_five_calls_to_one_worker_take_no_longer_than_they_must(serve, cluster):
    class Slow:
        name = "slow"

        @rpc
        def sleep(self):
            gevent.sleep(0.01)

    serve(Slow, max_workers=1)
    cluster.slow.sleep()
    began = monotonic()

    for call in [cluster.slow.sleep.call_async() for _ in range(5)]:
        call.result()

    assert 0.05 <= monotonic() - began < 5.0


def test_at_most_max_workers_calls_run_at_a_time(serve, cluster, gated):
    container = serve(gated, max_workers=3)

    calls = [cluster.gated.wait.call_async(number) for number in range(8)]
    gated.gate.wait_for(3)
    until(lambda: container.queued == 5)
    gated.gate.open()

    assert [call.result() for call in calls] == list(range(8))
    assert gated.gate.torn_down == 8


def test_39_a_service_that_waits_for_itself_with_every_worker_busy_fails_by_its_deadline(serve, cluster):
    class Selfish:
        name = "selfish"
        me = RpcProxy("selfish", timeout=0.1)

        @rpc
        def outer(self):
            return self.me.inner()

        @rpc
        def inner(self):
            return "inner"

    serve(Selfish, max_workers=1)
    linked(cluster.selfish, "inner")
    began = monotonic()

    with pytest.raises(RemoteError, match=r"RpcTimeout selfish\.inner was not answered by .* within 0.1 s"):
        cluster.selfish.outer()

    assert monotonic() - began < 5.0
    assert cluster.selfish.inner() == "inner"


def test_39_a_service_may_call_itself_if_a_worker_is_free(serve, cluster):
    class Twice:
        name = "twice"
        me = RpcProxy("twice")

        @rpc
        def outer(self):
            return self.me.inner()

        @rpc
        def inner(self):
            return "inner"

    serve(Twice, max_workers=2)

    assert cluster.twice.outer() == "inner"


def test_39_slow_methods_that_make_calls_do_not_block_each_other(serve, cluster):
    class Last:
        name = "last"

        @rpc
        def slow(self, number):
            gevent.sleep(0.005)
            return number

    class First:
        name = "first"
        last = RpcProxy("last")

        @rpc
        def ask(self, number):
            gevent.sleep(0.005)
            return self.last.slow(number)

    serve(Last, max_workers=2)
    serve(First, max_workers=2)

    calls = [cluster.first.ask.call_async(number) for number in range(20)]

    assert [call.result() for call in calls] == list(range(20))


# --- full houses -------------------------------------------------------------------------------------------


def test_a_full_service_refuses_at_once_and_says_how_full(serve, cluster, gated):
    container = serve(gated, max_workers=1, max_queued_calls=2)
    running = cluster.gated.wait.call_async(0)
    gated.gate.wait_for(1)
    queued = [cluster.gated.wait.call_async(number) for number in (1, 2)]
    until(lambda: container.queued == 2)

    with pytest.raises(Overloaded, match=r"gated\.wait was refused: 2 calls .* max_queued_calls is 2") as caught:
        cluster.gated.wait(3)
    gated.gate.open()

    assert caught.value.retryable
    assert [call.result() for call in [running, *queued]] == [0, 1, 2]
    assert cluster.gated.wait(4) == 4


def test_calls_with_a_free_worker_do_not_count_as_queued(serve, cluster, gated):
    serve(gated, max_workers=10, max_queued_calls=1)

    calls = [cluster.gated.wait.call_async(number) for number in range(12)]
    gated.gate.wait_for(10)

    # All have come when the last one is refused; only then may the others end.
    with pytest.raises(Overloaded, match="1 calls"):
        calls[11].result()
    gated.gate.open()
    assert [call.result() for call in calls[:11]] == list(range(11))


def test_the_bytes_of_waiting_calls_are_bounded_too(serve, cluster):
    class Hungry:
        name = "hungry"
        gate = Gate()

        @rpc
        def eat(self, food):
            self.gate()
            return len(food)

    container = serve(Hungry, max_workers=1, max_queued_bytes=1_000_000)
    calls = [cluster.hungry.eat.call_async(b"x" * 400_000) for _ in range(3)]
    until(lambda: container.queued == 2)

    with pytest.raises(Overloaded, match="max_queued_bytes 1,000,000"):
        cluster.hungry.eat(b"x")
    Hungry.gate.open()

    assert [call.result() for call in calls] == [400_000] * 3
    assert cluster.hungry.eat(b"x" * 900_000) == 900_000


def test_bytes_are_given_back_however_a_call_ends(serve, cluster):
    class Hungry:
        name = "hungry"
        gate = Gate()

        @rpc
        def eat(self, food):
            self.gate()

        @rpc
        def spit(self, food):
            raise ValueError("no")

        @rpc
        def strange(self, food):
            return object()

    container = serve(Hungry, max_workers=1, max_queued_bytes=1_000_000)

    for _ in range(5):
        for method in ("spit", "strange"):
            with pytest.raises(RemoteError):
                getattr(cluster.hungry, method)(b"x" * 900_000)
        with pytest.raises(RpcTimeout):
            cluster.hungry.eat.with_timeout(0.03)(b"x" * 900_000)
        until(lambda: container.pool.running() == 0)


def test_a_call_that_one_instance_refuses_is_made_at_another(serve, cluster, gated):
    class Other:
        name = "gated"

        @rpc
        def wait(self, number=0):
            return "other"

    full = serve(gated, max_workers=1, max_queued_calls=1)
    cluster.gated.wait.call_async(0)
    cluster.gated.wait.call_async(1)
    gated.gate.wait_for(1)
    until(lambda: full.queued == 1)
    serve(Other, elsewhere=True)

    def other_is_known():
        try:
            return cluster.gated.wait() == "other"
        except Overloaded:
            return False

    until(other_is_known)
    calls = [cluster.gated.wait.call_async() for _ in range(20)]

    assert [call.result() for call in calls] == ["other"] * 20


@pytest.mark.parametrize("key", ["max_queued_calls", "max_queued_bytes", "max_message_size"])
@pytest.mark.parametrize("value", [0, "many", 1.5])
def test_a_bound_that_is_no_whole_number_is_quoted(serve, gated, key, value):
    with pytest.raises(ConfigurationError, match=f"{key} is {value!r}"):
        serve(gated, **{key: value})


def test_calls_are_spread_over_the_instances(serve, cluster):
    counts = {"a": 0, "b": 0, "c": 0}

    def instance(label):
        class Counting:
            name = "counting"

            @rpc
            def count(self):
                counts[label] += 1
                gevent.sleep(0.01)

        return Counting

    for label in counts:
        serve(instance(label), elsewhere=True)
    until(lambda: cluster.counting.count() or all(counts.values()))

    for _ in range(5):
        for call in [cluster.counting.count.call_async() for _ in range(30)]:
            call.result()

    # How many each gets depends on how long its first answers took, on a busy machine also by chance.
    assert min(counts.values()) > 0


def test_a_call_leaves_nothing_for_the_garbage_collector(serve, cluster):
    class Plain:
        name = "plain"

        @rpc
        def add(self, a, b):
            return a + b

    serve(Plain)
    linked_add = cluster.plain.add
    assert linked_add(1, 2) == 3
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for number in range(200):
            assert linked_add(number, 1) == number + 1
        gc.collect()
        # Of others, who may have been here before, there may be more.
        left = [it for it in gc.garbage if type(it) in (IncomingCall, PendingCall, WorkerContext) and service_of(it) == "plain"]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert left == []


def service_of(it):
    return it.container.service_name if type(it) is WorkerContext else it.service
