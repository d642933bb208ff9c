"""Calls to a service that stops or is killed."""

import gevent
import pytest

from tests.stage import AsksGated, Gate, aside, until
from zmqservices.exceptions import CallCancelled, RemoteError, UnknownService, ZmqServicesError
from zmqservices.rpc import RpcProxy, rpc


@pytest.fixture
def make_gated():
    """Instances of one service, each with a gate of its own."""

    def make(label="one"):
        class Gated:
            name = "gated"
            gate = Gate()

            @rpc
            def wait(self):
                self.gate()
                return label

            @rpc
            def label(self):
                return label

        return Gated

    return make


# --- stopping ----------------------------------------------------------------------------------------------


def test_10_calls_that_run_or_wait_when_a_service_stops_are_answered(serve, cluster, make_gated):
    gated = make_gated()
    container = serve(gated, max_workers=2)
    calls = [cluster.gated.wait.call_async() for _ in range(5)]
    gated.gate.wait_for(2)
    until(lambda: container.queued == 3)

    stopping = gevent.spawn(container.stop)
    gevent.sleep(0.02)
    assert not stopping.ready()
    gated.gate.open()
    stopping.get(timeout=30)

    assert [call.result() for call in calls] == ["one"] * 5
    assert gated.gate.torn_down == 5


def test_40_calls_made_while_a_service_stops_go_to_another_instance(serve, cluster, make_gated):
    one, other = make_gated("one"), make_gated("other")
    container = serve(one)
    running = cluster.gated.wait.call_async()
    one.gate.wait_for(1)
    serve(other, elsewhere=True)

    stopping = gevent.spawn(container.stop)
    for _ in range(20):
        label = cluster.gated.label()
    until(lambda: cluster.gated.label() == "other")
    answers = {cluster.gated.label() for _ in range(20)}
    one.gate.open()
    stopping.get(timeout=30)

    assert label in ("one", "other")
    assert answers == {"other"}
    assert running.result() == "one"


def test_40_calls_made_while_the_only_instance_stops_wait_for_the_next(serve, cluster, make_gated):
    one = make_gated("one")
    container = serve(one)
    running = cluster.gated.wait.call_async()
    one.gate.wait_for(1)
    stopping = gevent.spawn(container.stop)
    until(lambda: container.entrypoints and _is_draining(container))

    waiting = [gevent.spawn(cluster.gated.label) for _ in range(3)]
    gevent.sleep(0.05)
    assert not any(call.ready() for call in waiting)
    serve(make_gated("next"), elsewhere=True)

    assert [call.get(timeout=30) for call in waiting] == ["next"] * 3
    one.gate.open()
    stopping.get(timeout=30)
    assert running.result() == "one"


def _is_draining(container):
    server = next(iter(container.entrypoints)).server
    return server._drained is not None


def test_40_a_call_ends_with_an_error_if_no_instance_comes(serve, connect, make_gated):
    cluster = connect(rpc_wait_for_service=0.1)
    container = serve(make_gated())

    def answers():
        try:
            return cluster.gated.label() == "one"
        except ZmqServicesError:
            return False  # A tenth of a second is short for a link on a busy machine.

    until(answers)

    container.stop()

    with pytest.raises(UnknownService, match="Unknown service `gated`"):
        cluster.gated.label()


def test_a_restart_loses_no_call(serve, cluster, make_gated):
    container = serve(make_gated())
    ended = []
    failed = []

    def ask():
        while not ended:
            try:
                cluster.gated.label()
            except ZmqServicesError as exc:
                failed.append(exc)
            gevent.sleep(0)

    callers = [gevent.spawn(ask) for _ in range(8)]
    for number in range(5):
        following = serve(make_gated(), elsewhere=bool(number % 2 == 0))
        container.stop()
        container = following
    ended.append(True)
    gevent.joinall(callers, timeout=30, raise_error=True)

    assert failed == []


def test_a_restart_on_the_same_port_loses_no_call(serve, cluster, make_gated, free_port):
    address = {"BIND_ADDRESS": f"tcp://127.0.0.1:{free_port}"}
    container = serve(make_gated("one"), **address)
    assert cluster.gated.label() == "one"

    container.stop()
    waiting = gevent.spawn(cluster.gated.label)
    serve(make_gated("two"), **address)

    assert waiting.get(timeout=30) == "two"
    assert cluster.gated.label() == "two"


def test_a_stopping_service_may_still_make_calls(serve, cluster, make_gated):
    class Middle:
        name = "middle"
        below = RpcProxy("gated")

        @rpc
        def ask(self):
            return self.below.wait(), self.below.label()

    gated = make_gated()
    serve(gated, elsewhere=True)
    middle = serve(Middle)
    call = cluster.middle.ask.call_async()
    gated.gate.wait_for(1)

    stopping = gevent.spawn(middle.stop)
    gevent.sleep(0.02)
    gated.gate.open()

    assert call.result() == ("one", "one")
    stopping.get(timeout=30)


def test_calls_that_do_not_end_while_a_service_stops_are_cancelled(serve, cluster, make_gated):
    gated = make_gated()
    container = serve(gated, drain_timeout=0.1)
    call = cluster.gated.wait.call_async()
    gated.gate.wait_for(1)

    container.stop()

    with pytest.raises(CallCancelled, match=r"'gated' is shutting down; its calls had 0\.1 s to end"):
        call.result()
    assert gated.gate.ended == ["WorkerCancelled"]
    assert gated.gate.torn_down == 1


def test_an_idle_client_in_a_plain_thread_does_not_delay_a_stop_for_long(serve, connect, make_gated):
    # It reads nothing while it makes no call, so its word that it knows cannot come.
    container = serve(make_gated())
    cluster = connect()
    assert aside(cluster.gated.label) == "one"

    with gevent.Timeout(15):
        container.stop()


# --- being killed ------------------------------------------------------------------------------------------


def test_12_calls_that_run_when_a_service_is_killed_end_in_a_named_error(serve, cluster, make_gated):
    gated = make_gated()
    container = serve(gated)
    call = cluster.gated.wait.call_async()
    gated.gate.wait_for(1)

    container.kill()

    with pytest.raises(CallCancelled, match="'gated' was killed"):
        call.result()
    assert gated.gate.torn_down == 0


def test_12_calls_that_wait_when_a_service_is_killed_are_made_elsewhere(serve, cluster, make_gated):
    gated = make_gated()
    container = serve(gated, max_workers=1)
    running = cluster.gated.wait.call_async()
    gated.gate.wait_for(1)
    waiting = cluster.gated.label.call_async()
    until(lambda: container.queued == 1)
    serve(make_gated("other"), elsewhere=True)

    container.kill()

    assert waiting.result() == "other"
    with pytest.raises(CallCancelled):
        running.result()


def test_13_a_failing_answer_kills_the_container_and_its_caller_gets_an_error(serve, cluster):
    from zmqservices.rpc import Rpc, RpcServer

    class BrokenServer(RpcServer):
        def handle_result(self, call, worker_ctx, result, exc_info):
            raise ValueError("cannot answer")

    class BrokenRpc(Rpc):
        server = BrokenServer()

    class Broken:
        name = "broken"

        @BrokenRpc.decorator
        def hello(self):
            pass

    container = serve(Broken)

    with pytest.raises(ZmqServicesError):
        cluster.broken.hello()
    with pytest.raises(ValueError, match="cannot answer"):
        container.wait()


def test_a_killed_service_may_be_started_again(serve, cluster, make_gated):
    for label in ("one", "two", "three"):
        container = serve(make_gated(label))
        assert cluster.gated.label() == label
        container.kill()


def test_a_service_that_fails_to_start_leaves_nothing_behind(serve, connect, make_gated):
    from zmqservices.extensions import DependencyProvider

    class Failing(DependencyProvider):
        def start(self):
            raise ValueError("cannot start")

    class Broken:
        name = "broken"
        failing = Failing()

        @rpc
        def hello(self):
            return "hello"

    with pytest.raises(ValueError, match="cannot start"):
        serve(Broken)
    gevent.sleep(0)

    class Fine:
        name = "fine"

        @rpc
        def hello(self):
            return "hello"

    serve(Fine)
    assert connect().fine.hello() == "hello"


def test_a_stop_of_a_container_that_never_started_ends_at_once(cluster_config, make_gated):
    from zmqservices.containers import ServiceContainer

    for end in ("stop", "kill"):
        container = ServiceContainer(make_gated(), cluster_config)
        getattr(container, end)()
        container.wait()


def test_remote_errors_of_a_nested_cancellation_have_a_name(serve, cluster, make_gated):
    gated = make_gated()
    container = serve(gated, elsewhere=True)
    serve(AsksGated)
    call = cluster.middle.ask.call_async()
    gated.gate.wait_for(1)

    container.kill()

    with pytest.raises(RemoteError, match="CallCancelled 'gated' was killed"):
        call.result()
