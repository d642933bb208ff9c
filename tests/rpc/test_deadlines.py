"""How long calls take at most: timeouts, deadlines of nested calls, and calls that nobody waits for any more."""

from time import monotonic

import gevent
import pytest

from tests.stage import AsksGated, Context, Gate, linked, until
from zmqservices.exceptions import CallCancelled, ConfigurationError, RemoteError, RpcTimeout, UnknownService
from zmqservices.rpc import ClusterRpc, RpcProxy, rpc


@pytest.fixture
def gated():
    """A service whose `wait` ends only when the gate is opened, or when it is cancelled."""

    class Gated:
        name = "gated"
        gate = Gate()

        @rpc
        def wait(self):
            self.gate()
            return "waited"

        @rpc
        def fine(self):
            return "fine"

    return Gated


def test_a_call_whose_time_is_spent_ends_on_time_and_is_cancelled_at_the_service(serve, cluster, gated):
    serve(gated, max_workers=1)
    linked(cluster.gated)
    began = monotonic()

    with pytest.raises(RpcTimeout, match=r"gated\.wait was not answered by [0-9a-f]{12} within 0\.1 s"):
        cluster.gated.wait.with_timeout(0.1)()

    assert 0.09 < monotonic() - began < 5.0
    until(lambda: gated.gate.torn_down == 2)
    assert gated.gate.ended == ["WorkerCancelled"]
    assert cluster.gated.fine() == "fine"


@pytest.mark.parametrize("timeout", [0.02, 0.6])
def test_short_and_long_timeouts_end_on_time(serve, cluster, gated, timeout):
    serve(gated)
    linked(cluster.gated)
    began = monotonic()

    with pytest.raises(RpcTimeout):
        cluster.gated.wait.with_timeout(timeout)()

    assert timeout - 0.01 < monotonic() - began < timeout + 5.0


def test_37_the_configured_timeout_holds_where_none_is_named(serve, connect, gated):
    serve(gated)

    with pytest.raises(RpcTimeout, match="within 0.05 s"):
        linked(connect(rpc_timeout=0.05).gated).wait()


def test_37_the_client_s_own_timeout_goes_before_the_configured_one(serve, connect, gated):
    serve(gated)

    with pytest.raises(RpcTimeout, match="within 0.05 s"):
        linked(connect(timeout=0.05).gated).wait()


def test_37_calls_between_services_have_a_timeout_too(serve, cluster, gated):
    class Caller:
        name = "caller"
        configured = RpcProxy("gated")
        own = RpcProxy("gated", timeout=0.06)
        everybody = ClusterRpc(timeout=0.07)

        @rpc
        def ask(self, which):
            return (self.everybody.gated if which == "cluster" else getattr(self, which)).wait()

        @rpc
        def fine(self):
            linked(self.configured)

    serve(gated)
    serve(Caller, rpc_timeout=0.05)
    linked(cluster.caller)

    for which, seconds in (("configured", "0.05"), ("own", "0.06"), ("cluster", "0.07")):
        with pytest.raises(RemoteError, match=f"RpcTimeout gated.wait was not answered by .* within {seconds} s"):
            cluster.caller.ask(which)


def test_no_timeout_means_to_wait_for_as_long_as_it_takes(serve, connect, gated):
    serve(gated)
    cluster = connect(rpc_timeout=None)
    unlimited = connect(timeout=0.05).gated.wait.with_timeout(None)

    calls = [gevent.spawn(cluster.gated.wait), gevent.spawn(unlimited)]
    gated.gate.wait_for(2)
    gevent.sleep(0.15)
    gated.gate.open()

    assert [call.get(timeout=30) for call in calls] == ["waited", "waited"]


@pytest.mark.parametrize("timeout", [0, 0.0, -1])
def test_a_call_without_any_time_ends_at_once_and_is_never_sent(serve, cluster, gated, timeout):
    serve(gated)
    cluster.gated.fine()

    with pytest.raises(RpcTimeout):
        cluster.gated.wait.with_timeout(timeout)()
    with pytest.raises(RpcTimeout):
        cluster.gated.wait.with_timeout(timeout).call_async()

    assert cluster.gated.fine() == "fine"
    assert gated.gate.inside == 0 and gated.gate.ended == []


@pytest.mark.parametrize("timeout", ["5", True, float("nan")])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(connect, timeout):
    with pytest.raises(ConfigurationError, match=f"timeout={timeout!r}"):
        connect().gated.wait.with_timeout(timeout)


@pytest.mark.parametrize("timeout", [0, -1, "5", True, float("nan")])
def test_a_timeout_of_a_proxy_or_a_client_must_be_above_zero(connect, timeout):
    with pytest.raises(ConfigurationError, match=f"timeout={timeout!r}"):
        RpcProxy("gated", timeout=timeout)
    with pytest.raises(ConfigurationError, match=f"timeout={timeout!r}"):
        ClusterRpc(timeout=timeout)
    with pytest.raises(ConfigurationError, match=f"timeout={timeout!r}"):
        connect(timeout=timeout)


@pytest.mark.parametrize("value", ["soon", -1, True])
def test_a_configured_timeout_that_is_none_is_quoted(serve, connect, gated, value):
    with pytest.raises(ConfigurationError, match=f"rpc_timeout is {value!r}"):
        serve(gated, rpc_timeout=value)
    with pytest.raises(ConfigurationError, match=f"rpc_timeout is {value!r}"):
        connect(rpc_timeout=value)


def test_the_timeout_of_a_method_ends_it_where_its_caller_would_wait(serve, cluster):
    class Limited:
        name = "limited"
        gate = Gate()

        @rpc(timeout=0.05)
        def wait(self):
            self.gate()

    serve(Limited)

    with pytest.raises(RpcTimeout, match=r"limited\.wait was ended by .*: deadline exceeded in limited\.wait"):
        cluster.limited.wait()

    assert Limited.gate.ended == ["WorkerCancelled"]


def test_a_call_whose_time_is_spent_in_the_queue_never_begins(serve, cluster, gated):
    pool = serve(gated, max_workers=1).pool
    first = cluster.gated.wait.call_async()
    gated.gate.wait_for(1)

    second = cluster.gated.wait.with_timeout(1.5).call_async()
    until(lambda: pool.queued == 1)
    with pytest.raises(RpcTimeout):
        second.result()
    until(lambda: pool.queued == 0)
    gated.gate.open()

    assert first.result() == "waited"
    assert gated.gate.ended == ["passed"]


# --- nested calls ------------------------------------------------------------------------------------------


class Reveals:
    name = "reveals"
    context = Context()

    @rpc
    def time_left(self):
        deadline = self.context.deadline
        return None if deadline is None else deadline - monotonic()


class Nested:
    name = "nested"
    context = Context()
    patient = RpcProxy("reveals", timeout=60)
    hasty = RpcProxy("reveals", timeout=5)
    endless = RpcProxy("reveals", timeout=None)

    @rpc
    def time_left(self, which):
        return getattr(self, which).time_left()


def test_a_nested_call_gets_the_smaller_of_its_own_and_what_is_left(serve, cluster):
    serve(Reveals)
    serve(Nested)

    assert 10 < cluster.nested.time_left.with_timeout(40)("patient") <= 40
    assert 0 < cluster.nested.time_left.with_timeout(40)("hasty") <= 5
    assert 10 < cluster.nested.time_left.with_timeout(40)("endless") <= 40
    assert 41 < cluster.nested.time_left.with_timeout(None)("patient") <= 60
    assert cluster.nested.time_left.with_timeout(None)("endless") is None


def test_when_the_time_of_the_first_call_is_spent_all_below_it_are_cancelled(serve, cluster, gated):
    class Middle:
        name = "middle"
        below = RpcProxy("gated", timeout=60)
        gate = Gate()

        @rpc
        def ask(self):
            return self.below.wait()

        @rpc
        def fine(self):
            linked(self.below)

    serve(gated)
    serve(Middle)
    linked(cluster.middle)
    began = monotonic()

    with pytest.raises(RpcTimeout, match="middle.ask"):
        cluster.middle.ask.with_timeout(0.1)()

    assert monotonic() - began < 5.0
    until(lambda: gated.gate.torn_down == 2)
    assert gated.gate.ended == ["WorkerCancelled"]
    until(lambda: Middle.gate.torn_down == 2)


# --- calls that are given up -------------------------------------------------------------------------------


def test_a_timeout_around_a_call_cancels_it_at_the_service(serve, cluster, gated):
    serve(gated, max_workers=1)
    timeout, caller = gevent.Timeout(), gevent.getcurrent()

    def run_out():
        # As the timeout's own timer would, and not before the call has begun.
        until(lambda: gated.gate.inside == 1)
        gevent.get_hub().loop.run_callback(caller.throw, timeout)

    gevent.spawn(run_out)
    with pytest.raises(gevent.Timeout):
        cluster.gated.wait()

    until(lambda: gated.gate.torn_down == 1)
    assert gated.gate.ended == ["WorkerCancelled"]
    assert cluster.gated.fine() == "fine"


def test_killing_the_greenlet_that_calls_cancels_the_call_at_the_service(serve, cluster, gated):
    serve(gated)
    caller = gevent.spawn(cluster.gated.wait)
    gated.gate.wait_for(1)

    caller.kill()

    until(lambda: gated.gate.ended == ["WorkerCancelled"])


def test_a_call_may_be_given_up_by_hand(serve, cluster, gated):
    serve(gated)
    call = cluster.gated.wait.call_async()
    gated.gate.wait_for(1)
    waiting = gevent.spawn(call.result)

    call.cancel()

    with pytest.raises(CallCancelled, match="gated.wait was given up by its caller"):
        waiting.get(timeout=30)
    with pytest.raises(CallCancelled):
        call.result()
    until(lambda: gated.gate.ended == ["WorkerCancelled"])
    call.cancel()


def test_giving_up_what_is_answered_changes_nothing(serve, cluster, gated):
    serve(gated)
    call = cluster.gated.fine.call_async()
    assert call.result() == "fine"

    call.cancel()

    assert call.result() == "fine"


def test_a_timeout_around_the_collection_of_a_result_gives_nothing_up(serve, cluster, gated):
    serve(gated)
    call = cluster.gated.wait.call_async()

    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        call.result()
    gated.gate.open()

    assert call.result() == "waited"


def test_a_call_that_waits_in_the_queue_is_given_up_without_ever_beginning(serve, cluster, gated):
    container = serve(gated, max_workers=1)
    first = cluster.gated.wait.call_async()
    second = cluster.gated.wait.call_async()
    third = cluster.gated.fine.call_async()
    until(lambda: container.queued == 2)

    second.cancel()
    until(lambda: container.queued == 1)
    gated.gate.open()

    assert first.result() == "waited"
    assert third.result() == "fine"
    assert gated.gate.ended == ["passed"]


def test_a_client_that_goes_away_has_its_calls_cancelled(serve, connect, cluster_config, gated):
    from zmqservices.standalone.rpc import ClusterRpcProxy

    serve(gated)
    client = ClusterRpcProxy(cluster_config)
    call = client.start().gated.wait.call_async()
    gated.gate.wait_for(1)

    client.stop()

    with pytest.raises(CallCancelled, match="gated.wait: the client was stopped"):
        call.result()
    until(lambda: gated.gate.ended == ["WorkerCancelled"])


def test_when_a_worker_is_cancelled_the_call_that_it_makes_is_cancelled_too(serve, cluster, gated):
    serve(gated)
    serve(AsksGated)
    call = cluster.middle.ask.call_async()
    gated.gate.wait_for(1)

    call.cancel()

    until(lambda: gated.gate.ended == ["WorkerCancelled"])


def test_a_call_that_waits_for_a_service_may_be_given_up(connect):
    cluster = connect()

    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        cluster.nobody.hello()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        cluster.nobody.hello.call_async()


def test_the_wait_for_a_service_is_part_of_the_call_s_time(connect):
    cluster = connect(rpc_wait_for_service=5)
    began = monotonic()

    with pytest.raises(UnknownService):
        cluster.nobody.hello.with_timeout(0.1)()

    assert monotonic() - began < 4.0


def test_a_late_answer_is_thrown_away_and_the_proxy_is_as_good_as_before(serve, cluster):
    class Stubborn:
        name = "stubborn"

        @rpc
        def wait(self):
            try:
                gevent.sleep(5)
            except BaseException:
                gevent.sleep(0.02)
            return "late"

        @rpc
        def fine(self):
            return "fine"

    serve(Stubborn)
    linked(cluster.stubborn)

    for _ in range(3):
        with pytest.raises(RpcTimeout):
            cluster.stubborn.wait.with_timeout(0.03)()
        assert cluster.stubborn.fine() == "fine"
