"""The small things of the testing kit."""

import socket
from functools import partial
from unittest.mock import Mock, call

import gevent
import pytest
from gevent.event import Event

from zmqservices.dependency_providers import Config, Logger
from zmqservices.extensions import DependencyProvider, Entrypoint
from zmqservices.runners import ServiceRunner
from zmqservices.testing.services import dummy
from zmqservices.testing.utils import (
    ANY_PARTIAL,
    AnyInstanceOf,
    DummyProvider,
    ResourcePipeline,
    assert_stops_raising,
    find_free_port,
    get_container,
    get_extension,
    unpack_mock_call,
    wait_for_call,
    wait_for_worker_idle,
)


class Service:
    name = "service"
    config = Config()
    settings = Config()

    @dummy
    def method(self):
        pass


class Other:
    name = "other"

    @dummy
    def method(self):
        pass


def test_get_extension_finds_by_class_and_attributes(container_factory):
    container = container_factory(Service, {})

    assert get_extension(container, Entrypoint).method_name == "method"
    assert get_extension(container, Config, attr_name="settings").attr_name == "settings"
    assert get_extension(container, Config, attr_name="nothing") is None
    assert get_extension(container, Logger) is None
    assert isinstance(get_extension(container, DependencyProvider), Config)


def test_get_container_finds_by_service_class():
    runner = ServiceRunner({})
    runner.add_service(Service)
    runner.add_service(Other)

    assert get_container(runner, Other).service_cls is Other
    assert get_container(runner, Mock) is None


def test_wait_for_call_waits_for_a_mock():
    mock = Mock()
    gevent.spawn(mock.method, 1)

    with wait_for_call(5, mock.method) as called:
        called.assert_called_once_with(1)

    with pytest.raises(gevent.Timeout), wait_for_call(0.01, Mock()):
        pass


def test_wait_for_worker_idle_is_deprecated_and_works(container_factory):
    entered, leave = Event(), Event()

    class Slow:
        name = "slow"

        @dummy
        def method(self):
            entered.set()
            leave.wait()

    container = container_factory(Slow, {})
    container.start()
    container.spawn_worker(get_extension(container, Entrypoint), (), {})
    assert entered.wait(30)

    with pytest.warns(DeprecationWarning, match="entrypoint_waiter"), pytest.raises(gevent.Timeout):
        wait_for_worker_idle(container, timeout=0.01)
    leave.set()
    with pytest.warns(DeprecationWarning):
        wait_for_worker_idle(container)


def test_assert_stops_raising_tries_again():
    function = Mock(side_effect=[ValueError, ValueError, None])

    assert_stops_raising(function, interval=0)

    assert function.call_count == 3


def test_assert_stops_raising_gives_up_and_tells_the_last_error():
    with pytest.raises(gevent.Timeout) as caught:
        assert_stops_raising(Mock(side_effect=ValueError("still")), timeout=0.02, interval=0.001)

    assert str(caught.value.__cause__) == "still"


def test_assert_stops_raising_lets_other_errors_out():
    with pytest.raises(KeyError):
        assert_stops_raising(Mock(side_effect=KeyError), ValueError)


def test_the_arguments_of_a_mocks_call():
    mock = Mock()
    mock(1, 2, three=3)

    args, kwargs = unpack_mock_call(mock.call_args)

    assert (args, kwargs) == ((1, 2), {"three": 3})
    assert unpack_mock_call(call(1)).positional == (1,)


def test_any_instance_of():
    mock = Mock()
    mock(3)

    mock.assert_called_with(AnyInstanceOf(int))
    assert AnyInstanceOf(str) != 3
    assert partial(print) == ANY_PARTIAL
    assert repr(AnyInstanceOf(int)) == "<AnyInstanceOf-int>"


def test_a_dummy_provider_is_an_entrypoint_with_a_name():
    assert isinstance(DummyProvider("method"), Entrypoint)
    assert DummyProvider("method").method_name == "method"
    assert DummyProvider().method_name is None


def test_a_free_port_can_be_bound():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", find_free_port()))


# --- ResourcePipeline ------------------------------------------------------------------------------------------------


class Store:
    def __init__(self):
        self.made, self.destroyed = 0, []

    def create(self):
        self.made += 1
        return self.made


@pytest.fixture
def store():
    return Store()


def test_resources_are_made_ahead_and_each_is_destroyed_once(store):
    with ResourcePipeline(store.create, store.destroyed.append, size=2).run() as pipeline:
        with pipeline.get() as first, pipeline.get() as second:
            assert (first, second) == (1, 2)
        assert pipeline.trash.qsize() == 2
        gevent.sleep(0)
        assert pipeline.trash.qsize() == 0

    assert sorted(store.destroyed) == list(range(1, store.made + 1))
    assert store.made <= 6


def test_a_resource_that_cannot_be_made_is_an_error_of_who_wants_it(store):
    create = Mock(side_effect=OSError("no more"))

    with ResourcePipeline(create, store.destroyed.append).run() as pipeline:
        with pytest.raises(OSError, match="no more"), pipeline.get():
            pass

    assert store.destroyed == []


def test_a_resource_that_cannot_be_destroyed_is_told_at_the_end(store):
    def destroy(resource):
        raise OSError("still in use")

    with pytest.raises(OSError, match="still in use"), ResourcePipeline(store.create, destroy).run() as pipeline:
        with pipeline.get():
            pass


def test_an_empty_pipeline_is_refused(store):
    with pytest.raises(RuntimeError, match="size is 0"):
        ResourcePipeline(store.create, store.destroyed.append, size=0)
