"""Semantics 54-57: services alone, hosted without their network, and waited for."""

from unittest.mock import MagicMock

import gevent
import pytest
from gevent.event import Event

from zmqservices.exceptions import ContainerBeingKilled, ExtensionNotFound, MethodNotFound
from zmqservices.extensions import DependencyProvider, Entrypoint, SharedExtension
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.services import (
    EntrypointWaiterTimeout,
    MockDependencyProvider,
    dummy,
    entrypoint_hook,
    entrypoint_waiter,
    once,
    replace_dependencies,
    restrict_entrypoints,
    worker_factory,
)
from zmqservices.testing.waiting import WaitResult


class Context(DependencyProvider):
    def get_dependency(self, worker_ctx):
        return worker_ctx


class Conversions:
    name = "conversions"

    maths = RpcProxy("maths")
    context = Context()

    @rpc
    def to_cm(self, inches):
        return self.maths.multiply(inches, 2.54)

    @rpc
    def pair(self, value):
        return value, type(value)

    @dummy
    def whose(self):
        return self.context.data.get("user_id")

    @dummy
    def fail(self):
        raise KeyError("no such unit")


# --- worker_factory --------------------------------------------------------------------------------------------------


def test_57_worker_factory_gives_mocks_for_what_is_not_given():
    service = worker_factory(Conversions)
    service.maths.multiply.side_effect = lambda a, b: a * b

    assert service.to_cm(100) == 254
    service.maths.multiply.assert_called_once_with(100, 2.54)
    assert isinstance(service.context, MagicMock)


def test_57_worker_factory_takes_stand_ins_even_false_ones():
    service = worker_factory(Conversions, maths=None, context=0)

    assert service.maths is None
    assert service.context == 0


def test_57_worker_factory_refuses_a_name_that_is_no_dependency():
    with pytest.raises(ExtensionNotFound, match="'math' is declared on .*Conversions.*; it has context, maths"):
        worker_factory(Conversions, math=object())


def test_57_worker_factory_takes_classes_that_are_no_services():
    class Plain:
        pass

    assert isinstance(worker_factory(Plain), Plain)


# --- restrict_entrypoints --------------------------------------------------------------------------------------------


def test_57_restrict_entrypoints_leaves_those_that_are_named(container_factory):
    ran = []

    class Service:
        name = "service"

        @once("early")
        @dummy
        def both(self, arg=None):
            ran.append(arg)

        @dummy
        def other(self):
            return "other"

    container = container_factory(Service, {})

    restrict_entrypoints(container, "other")
    container.start()

    with entrypoint_hook(container, "other") as other:
        assert other() == "other"
    assert ran == []
    assert {entrypoint.method_name for entrypoint in container.entrypoints} == {"other"}


def test_57_a_method_that_was_left_out_is_not_found_by_callers(container_factory, cluster_config):
    class Service:
        name = "service"

        @rpc
        def method(self):
            pass

        @dummy
        def other(self):
            pass

    container = container_factory(Service, cluster_config)
    restrict_entrypoints(container, "other")
    container.start()

    with ServiceRpcProxy("service") as service, pytest.raises(MethodNotFound, match="method"):
        service.method()
    container.stop()


def test_57_restrict_entrypoints_works_on_methods_as_a_whole(container_factory):
    class Service:
        name = "service"

        @dummy
        @dummy
        def both(self):
            pass

        @dummy
        def other(self):
            pass

    container = container_factory(Service, {})

    restrict_entrypoints(container, "both")

    assert [entrypoint.method_name for entrypoint in container.entrypoints] == ["both", "both"]


def test_57_restrict_entrypoints_refuses_unknown_names_and_started_containers(container_factory):
    container = container_factory(Conversions, {})
    replace_dependencies(container, "maths")

    with pytest.raises(ExtensionNotFound, match="no entrypoint 'nothing'"):
        restrict_entrypoints(container, "nothing")
    restrict_entrypoints(container, "whose")
    container.start()
    with pytest.raises(RuntimeError, match="before the container is started"):
        restrict_entrypoints(container, "whose")


# --- replace_dependencies --------------------------------------------------------------------------------------------


@pytest.fixture
def conversions(container_factory):
    """A container without the network."""
    container = container_factory(Conversions, {})
    restrict_entrypoints(container, "whose", "fail")
    return container


def test_56_one_name_gives_its_mock(conversions):
    maths = replace_dependencies(conversions, "maths")
    maths.multiply.return_value = 254

    conversions.start()
    with entrypoint_hook(conversions, "whose") as whose:
        assert whose() is None

    assert isinstance(maths, MagicMock)


def test_56_several_names_give_their_mocks_in_order(conversions):
    maths, context = replace_dependencies(conversions, "maths", "context")
    context.data.get.return_value = 7

    conversions.start()

    with entrypoint_hook(conversions, "whose") as whose:
        assert whose() == 7
    assert maths is not context


def test_56_what_is_given_by_keyword_is_injected_and_not_returned(conversions):
    class Stand:
        data = {"user_id": 3}

    replaced = replace_dependencies(conversions, "maths", context=Stand())

    conversions.start()

    assert isinstance(replaced, MagicMock)
    with entrypoint_hook(conversions, "whose") as whose:
        assert whose() == 3


def test_56_none_can_be_injected(container_factory):
    class Service:
        name = "service"
        context = Context()

        @dummy
        def look(self):
            return self.context

    container = container_factory(Service, {})
    replace_dependencies(container, context=None)
    container.start()

    with entrypoint_hook(container, "look") as look:
        assert look() is None


def test_56_an_unknown_name_is_refused(conversions):
    with pytest.raises(ExtensionNotFound, match="no dependency 'math'"):
        replace_dependencies(conversions, "math")


def test_56_the_same_name_twice_is_refused(conversions):
    with pytest.raises(RuntimeError, match="maths: named twice"):
        replace_dependencies(conversions, "maths", maths=1)


def test_56_a_started_container_is_refused(conversions):
    replace_dependencies(conversions, "maths")
    conversions.start()

    with pytest.raises(RuntimeError, match="before the container is started"):
        replace_dependencies(conversions, "maths")


def test_56_the_class_and_other_containers_are_not_touched(conversions, container_factory):
    replace_dependencies(conversions, "maths")

    other = container_factory(Conversions, {})

    assert isinstance(Conversions.maths, RpcProxy)
    assert not any(isinstance(provider, MockDependencyProvider) for provider in other.dependencies)


def test_56_sub_extensions_of_what_was_replaced_still_run(container_factory):
    started = []

    class Shared(SharedExtension):
        def start(self):
            started.append("shared")

    class Provider(DependencyProvider):
        shared = Shared()

        def start(self):
            started.append("provider")

    class Service:
        name = "service"
        provider = Provider()

        @dummy
        def method(self):
            pass

    container = container_factory(Service, {})
    replace_dependencies(container, "provider")

    container.start()

    assert started == ["shared"]


# --- entrypoint_hook -------------------------------------------------------------------------------------------------


def test_54_values_pass_as_they_are(container_factory, cluster_config):
    container = container_factory(Conversions, cluster_config)
    container.start()
    odd = object()

    with entrypoint_hook(container, "pair") as pair:
        assert pair((1, 2)) == ((1, 2), tuple)
        assert pair(odd)[0] is odd


def test_54_the_entrypoints_own_handle_result_is_not_called(container_factory):
    class Loud(Entrypoint):
        def handle_result(self, worker_ctx, result, exc_info):
            raise AssertionError("called")

    class Service:
        name = "service"

        @Loud.decorator
        def method(self):
            return "result"

    container = container_factory(Service, {})
    container.start()

    with entrypoint_hook(container, "method") as method:
        assert method() == "result"


def test_54_a_container_need_not_have_been_started(conversions):
    replace_dependencies(conversions, "maths")

    with entrypoint_hook(conversions, "whose", context_data={"user_id": 9}) as whose:
        assert whose() == 9


def test_54_context_data_is_there_for_every_call(conversions):
    replace_dependencies(conversions, "maths")
    conversions.start()

    with entrypoint_hook(conversions, "whose", {"user_id": 9, "call_id_stack": ["a"]}) as whose:
        assert [whose(), whose()] == [9, 9]


def test_54_an_error_of_the_method_is_raised(conversions):
    replace_dependencies(conversions, "maths")
    conversions.start()

    with entrypoint_hook(conversions, "fail") as fail, pytest.raises(KeyError, match="no such unit"):
        fail()


def test_54_a_method_without_entrypoint_is_refused(conversions):
    with pytest.raises(ExtensionNotFound, match="no entrypoint 'nothing'"), entrypoint_hook(conversions, "nothing"):
        pass


def test_54_the_containers_death_is_raised(container_factory):
    class Service:
        name = "service"

        @dummy
        def hang(self):
            gevent.sleep(1000)

    container = container_factory(Service, {})
    container.start()

    def die():
        raise RuntimeError("the thread broke")

    with entrypoint_hook(container, "hang") as hang, pytest.raises(RuntimeError, match="the thread broke"):
        container.spawn_managed_thread(die)
        hang()


def test_54_a_container_that_is_killed_without_a_reason_says_so(container_factory):
    class Service:
        name = "service"

        @dummy
        def hang(self):
            gevent.sleep(1000)

    container = container_factory(Service, {})
    container.start()

    with entrypoint_hook(container, "hang") as hang, pytest.raises(ContainerBeingKilled, match="was killed while"):
        gevent.spawn(container.kill)
        hang()


def test_54_a_call_may_be_bound_in_time(container_factory):
    class Service:
        name = "service"

        @dummy
        def hang(self):
            gevent.sleep(1000)

    container = container_factory(Service, {})
    container.start()

    with (
        entrypoint_hook(container, "hang", timeout=0.01) as hang,
        pytest.raises(EntrypointWaiterTimeout, match=r"Timeout on service.hang after 0.01 seconds"),
    ):
        hang()


def test_54_the_hook_returns_when_the_worker_is_torn_down(container_factory):
    torn_down = []

    class Slow(DependencyProvider):
        def worker_teardown(self, worker_ctx):
            gevent.sleep(0)
            torn_down.append(worker_ctx)

    class Service:
        name = "service"
        slow = Slow()

        @dummy
        def method(self):
            return "done"

    container = container_factory(Service, {})
    container.start()

    with entrypoint_hook(container, "method") as method:
        assert method() == "done"
        assert len(torn_down) == 1


def test_54_hooks_may_be_used_side_by_side(container_factory):
    both = Event()

    class Service:
        name = "service"

        @dummy
        def wait(self):
            assert both.wait(30)
            return "waited"

        @dummy
        def go(self):
            both.set()
            return "went"

    container = container_factory(Service, {})
    container.start()

    with entrypoint_hook(container, "wait") as wait, entrypoint_hook(container, "go") as go:
        waiting = gevent.spawn(wait)
        assert go() == "went"
        assert waiting.get(timeout=30) == "waited"


# --- entrypoint_waiter -----------------------------------------------------------------------------------------------


class Counting:
    name = "counting"
    context = Context()

    @rpc
    def count(self, number):
        if number < 0:
            raise ValueError("negative")
        return number + 1

    @rpc
    def other(self):
        return None


@pytest.fixture
def counting(container_factory, cluster_config):
    container = container_factory(Counting, cluster_config)
    container.start()
    with ServiceRpcProxy("counting") as proxy:
        yield container, proxy


def test_55_the_waiter_gives_the_result(counting):
    container, proxy = counting

    with entrypoint_waiter(container, "count") as result:
        proxy.count.call_async(1)

    assert result.get() == 2


def test_55_before_there_is_a_result_there_is_none(counting):
    container, proxy = counting

    with entrypoint_waiter(container, "count") as result:
        with pytest.raises(WaitResult.NotReady):
            result.get()
        assert not result.has_result
        proxy.count.call_async(1)


def test_55_the_waiter_gives_the_error(counting):
    container, proxy = counting

    with entrypoint_waiter(container, "count") as result:
        proxy.count.call_async(-1)

    with pytest.raises(ValueError, match="negative"):
        result.get()


def test_55_a_method_without_entrypoint_is_refused(counting):
    container, _ = counting

    with pytest.raises(RuntimeError, match="counting has no entrypoint 'cuont' to wait for"):
        with entrypoint_waiter(container, "cuont"):
            pass


def test_55_other_methods_do_not_count(counting):
    container, proxy = counting

    with entrypoint_waiter(container, "count") as result:
        proxy.other()
        assert not result.has_result
        proxy.count.call_async(3)

    assert result.get() == 4


def test_55_the_waiter_returns_after_the_teardown(container_factory):
    torn_down = []

    class Slow(DependencyProvider):
        def worker_teardown(self, worker_ctx):
            gevent.sleep(0.01)
            torn_down.append(worker_ctx)

    class Service:
        name = "service"
        slow = Slow()

        @dummy
        def method(self):
            pass

    container = container_factory(Service, {})
    container.start()
    (entrypoint,) = container.entrypoints

    with entrypoint_waiter(container, "method"):
        container.spawn_worker(entrypoint, (), {})

    assert len(torn_down) == 1


def test_55_a_callback_chooses_the_call(counting):
    container, proxy = counting
    seen = []

    def callback(worker_ctx, result, exc_info):
        seen.append((worker_ctx.args[0], result, exc_info and exc_info[0]))
        return result == 4

    with entrypoint_waiter(container, "count", callback=callback) as result:
        for number in (-1, 1, 3):
            proxy.count.call_async(number)

    assert result.get() == 4
    assert seen == [(-1, None, ValueError), (1, 2, None), (3, 4, None)]


def test_55_a_callback_that_fails_is_told_where_the_test_waits(counting):
    container, proxy = counting

    def callback(worker_ctx, result, exc_info):
        raise AssertionError("the test's own mistake")

    with entrypoint_waiter(container, "count", callback=callback) as result:
        assert proxy.count(1) == 2

    with pytest.raises(AssertionError, match="the test's own mistake"):
        result.get()


def test_55_an_error_of_the_block_comes_out_at_once(counting):
    container, _ = counting

    with pytest.raises(RuntimeError, match="of the block"), entrypoint_waiter(container, "count"):
        raise RuntimeError("of the block")


def test_55_the_waiter_gives_up(counting):
    container, _ = counting

    with (
        pytest.raises(entrypoint_waiter.Timeout, match=r"^Timeout on counting.count after 0.01 seconds$"),
        entrypoint_waiter(container, "count", timeout=0.01),
    ):
        pass


def test_55_waiters_may_be_nested(counting):
    container, proxy = counting

    with entrypoint_waiter(container, "count") as first, entrypoint_waiter(container, "other") as second:
        proxy.count.call_async(1)
        proxy.other.call_async()

    assert (first.get(), second.get()) == (2, None)


def test_55_a_call_that_was_answered_before_does_not_count(container_factory):
    """Nameko's waiter would take the teardown of the call before for that of the call to come."""
    entered, leave = Event(), Event()

    class Slow(DependencyProvider):
        def worker_teardown(self, worker_ctx):
            entered.set()
            leave.wait()

    class Service:
        name = "service"
        slow = Slow()

        @dummy
        def method(self, number):
            return number

    container = container_factory(Service, {})
    container.start()
    (entrypoint,) = container.entrypoints
    container.spawn_worker(entrypoint, (1,), {})
    assert entered.wait(30)

    with entrypoint_waiter(container, "method") as result:
        leave.set()
        container.spawn_worker(entrypoint, (2,), {})

    assert result.get() == 2


def test_55_no_private_name_of_the_container_is_patched(counting):
    container, proxy = counting
    before = dict(vars(container))

    with entrypoint_waiter(container, "count"):
        during = dict(vars(container))
        proxy.count.call_async(1)

    assert {name for name in during if during[name] is not before.get(name)} == {"probes", "_own_probes"}


# --- once ------------------------------------------------------------------------------------------------------------


def test_once_runs_at_the_start_with_its_arguments(container_factory):
    ran = []

    class Service:
        name = "service"

        @once("a", key="b")
        def method(self, *args, **kwargs):
            ran.append((args, kwargs))

        @once
        def bare(self):
            ran.append("bare")

    container = container_factory(Service, {})
    with entrypoint_waiter(container, "method"), entrypoint_waiter(container, "bare"):
        container.start()

    assert ("bare" in ran) and (("a",), {"key": "b"}) in ran
    assert len(ran) == 2
