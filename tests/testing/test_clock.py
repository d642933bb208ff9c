"""A clock that is wound by hand."""

import time

import gevent
import pytest

from zmqservices.exceptions import RpcTimeout
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.clock import Clock
from zmqservices.testing.services import dummy, entrypoint_waiter


def test_it_shows_the_time_and_what_it_was_wound():
    clock = Clock()
    before = time.monotonic()

    clock.wind(1000)

    assert 1000 <= clock() - before < 1060


def test_it_cannot_be_wound_back():
    with pytest.raises(ValueError, match="cannot be wound back, by -1"):
        Clock().wind(-1)


def test_sleepers_wake_in_their_order():
    clock, woken = Clock(), []

    def sleep(seconds):
        clock.sleep(seconds)
        woken.append(seconds)

    sleepers = [gevent.spawn(sleep, seconds) for seconds in (3000, 1000, 2000, 9000)]
    gevent.sleep(0)

    clock.wind(5000)

    assert woken == [1000, 2000, 3000]
    gevent.killall(sleepers)
    assert clock._sleepers == []


def test_a_sleeper_that_goes_to_sleep_again_wakes_again_within_what_is_wound():
    clock, ticks = Clock(), []

    def tick():
        while True:
            clock.sleep(100)
            ticks.append(clock())

    ticking = gevent.spawn(tick)
    gevent.sleep(0)

    clock.wind(350)

    ticking.kill()
    assert len(ticks) == 3
    assert 99 < ticks[1] - ticks[0] < 101


def test_it_runs_by_itself_too():
    clock = Clock()

    with gevent.Timeout(5):
        clock.sleep(0.01)


def test_it_winds_the_deadlines_of_a_container(container_factory, cluster_config):
    class Slow:
        name = "slow"

        @rpc
        def method(self):
            gevent.sleep(1000)

    container = container_factory(Slow, cluster_config)
    container.start()
    clock = Clock()

    with ServiceRpcProxy("slow", timeout=600) as slow, clock.winds(container):
        with entrypoint_waiter(container, "method"):
            call = slow.method.call_async()
            while not container._worker_pool.running():
                gevent.sleep(0.001)
            clock.wind(599)
            assert container._worker_pool.running()
            clock.wind(2)
        with pytest.raises(RpcTimeout):
            call.result()


def test_afterwards_deadlines_are_their_own_again(container_factory):
    class Service:
        name = "service"

        @dummy
        def method(self):
            pass

    container = container_factory(Service, {})

    with Clock().winds(container) as clock:
        assert container._deadlines.clock is clock

    assert container._deadlines.clock is time.monotonic
