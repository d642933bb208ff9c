"""A clock that is wound by hand."""

import time

import gevent
import pytest
from gevent.event import Event

from zmqservices.exceptions import RpcTimeout
from zmqservices.extensions import Entrypoint
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.clock import Clock
from zmqservices.testing.services import dummy, entrypoint_waiter
from zmqservices.timer import timer


def test_it_shows_the_time_and_what_it_was_wound():
    clock = Clock()
    before = time.monotonic()

    clock.wind(1000)

    assert 1000 <= clock() - before < 1060


def test_a_timer_goes_by_it(container_factory, cluster_config):
    ticks = []

    class Hourly:
        name = "hourly"

        @timer(3600)
        def tick(self):
            ticks.append(clock())

    clock = Clock()
    container = container_factory(Hourly, cluster_config)
    with clock.winds(container):
        container.start()
        gevent.sleep(0)
        for hour in (1, 2, 3):
            with entrypoint_waiter(container, "tick"):
                clock.wind(3600)
            assert len(ticks) == hour


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

    with gevent.Timeout(30):
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
            while not container.pool.running():
                gevent.sleep(0.001)
            clock.wind(599)
            assert container.pool.running()
            clock.wind(2)
        with pytest.raises(RpcTimeout):
            call.result()


class Alarm(Entrypoint):
    """Fires once, after so many seconds."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.clock = time.monotonic
        self.looked = Event()

    def start(self):
        self.due = self.clock() + self.seconds
        self.container.spawn_managed_thread(self.run)

    def run(self):
        while self.clock() < self.due:
            self.looked.clear()
            self.looked.wait(self.due - self.clock())
        self.container.spawn_worker(self, (), {})

    def look(self):
        self.looked.set()


def test_it_winds_extensions_that_take_a_clock(container_factory):
    class Service:
        name = "service"

        @Alarm.decorator(3600)
        def ring(self):
            return "rung"

    container = container_factory(Service, {})
    clock = Clock()

    with clock.winds(container):
        container.start()
        gevent.sleep(0)
        clock.wind(3599)
        assert container.pool.running() == 0
        with entrypoint_waiter(container, "ring", timeout=30) as rung:
            clock.wind(2)

    assert rung.get() == "rung"


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
