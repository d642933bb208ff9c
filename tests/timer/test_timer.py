"""Timers in a container: real time, but no test waits for more than a few ticks of some milliseconds."""

import logging
from time import monotonic

import gevent
import pytest
import zmq
from gevent.event import Event

from tests.stage import Gate, until
from zmqservices.containers import ServiceContainer
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider
from zmqservices.runners import run_services
from zmqservices.timer import Timer, timer


class Ticks(DependencyProvider):
    """Injects a function that notes when it was called; `wait_for(n)` returns when it was called n times."""

    def __init__(self):
        self.times = []

    def bind(self, container, attr_name):
        bound = super().bind(container, attr_name)
        bound.times = self.times
        return bound

    def get_dependency(self, worker_ctx):
        return lambda: self.times.append(monotonic())

    def wait_for(self, count):
        until(lambda: len(self.times) >= count)


@pytest.fixture
def start():
    containers = []

    def start(service_cls, config=None):
        container = ServiceContainer(service_cls, config or {})
        containers.append(container)
        container.start()
        return container

    yield start
    for container in containers:
        container.kill()


def test_it_runs_the_method_again_and_again(start):
    class Clock:
        name = "clock"
        tick = Ticks()

        @timer(interval=0.005)
        def on_time(self):
            self.tick()

    began = monotonic()
    start(Clock)
    Clock.tick.wait_for(3)

    assert Clock.tick.times[0] - began >= 0.005
    assert Clock.tick.times[2] - began >= 0.015


def test_an_eager_one_runs_at_the_start(start):
    class Clock:
        name = "clock"
        tick = Ticks()

        @timer(interval=1000, eager=True)
        def on_time(self):
            self.tick()

    start(Clock)

    Clock.tick.wait_for(1)


def test_semantic_47_it_never_overlaps(start):
    class Clock:
        name = "clock"
        gate = Gate()

        @timer(interval=0.002, eager=True)
        def on_time(self):
            self.gate()

    start(Clock)
    Clock.gate.wait_for(1)
    gevent.sleep(0.02)

    assert Clock.gate.inside == 1


def test_semantic_47_the_next_tick_waits_for_the_handling_of_the_result(start):
    handled = Event()

    class Slow(Timer):
        def handle_result(self, worker_ctx, result, exc_info):
            handled.wait()
            return super().handle_result(worker_ctx, result, exc_info)

    class Clock:
        name = "clock"
        tick = Ticks()

        @Slow.decorator(interval=0.002, eager=True)
        def on_time(self):
            self.tick()

    start(Clock)
    Clock.tick.wait_for(1)
    gevent.sleep(0.02)
    assert len(Clock.tick.times) == 1

    handled.set()
    Clock.tick.wait_for(2)


def test_missed_ticks_are_skipped_and_that_is_told(start, caplog):
    caplog.set_level(logging.INFO, "zmqservices.timer")

    class Clock:
        name = "clock"
        tick = Ticks()
        gate = Gate()

        @timer(interval=0.02, eager=True)
        def on_time(self):
            self.tick()
            self.gate()

    start(Clock)
    Clock.gate.wait_for(1)
    gevent.sleep(0.07)
    Clock.gate.open()
    Clock.tick.wait_for(3)

    assert "skipped" in caplog.text


def test_missed_ticks_are_caught_up_where_that_is_asked_for(start):
    class Clock:
        name = "clock"
        tick = Ticks()
        gate = Gate()

        @timer(interval=0.02, eager=True, missed="catch_up")
        def on_time(self):
            self.tick()
            self.gate()

    start(Clock)
    Clock.gate.wait_for(1)
    gevent.sleep(0.8)
    opened = monotonic()
    Clock.gate.open()
    Clock.tick.wait_for(41)

    # Forty ticks that come when they are due take another 0.8 s.
    assert Clock.tick.times[40] - opened < 0.7


def test_semantic_48_an_error_does_not_stop_it(start, caplog):
    class Clock:
        name = "clock"
        tick = Ticks()

        @timer(interval=0.002)
        def on_time(self):
            self.tick()
            raise ValueError("not this time")

    container = start(Clock)
    Clock.tick.wait_for(3)

    assert "not this time" in caplog.text
    assert not container._died.ready()


def test_an_error_of_the_services_own_making_does_not_stop_it_either(start):
    made = []

    class Clock:
        name = "clock"
        tick = Ticks()

        def __init__(self):
            made.append(self)
            if len(made) < 3:
                raise ValueError("not yet")

        @timer(interval=0.002)
        def on_time(self):
            self.tick()

    start(Clock)

    Clock.tick.wait_for(1)


def test_semantic_48_a_timer_that_sleeps_stops_at_once(start):
    class Clock:
        name = "clock"

        @timer(interval=1000)
        def on_time(self):
            pass

    container = start(Clock)
    with gevent.Timeout(30):
        container.stop()


def test_semantic_48_stopping_waits_for_a_tick_that_runs(start):
    class Clock:
        name = "clock"
        gate = Gate()

        @timer(interval=1000, eager=True)
        def on_time(self):
            self.gate()

    container = start(Clock)
    Clock.gate.wait_for(1)
    stopping = gevent.spawn(container.stop)
    gevent.sleep(0.01)
    assert not stopping.ready()

    Clock.gate.open()
    stopping.get(timeout=30)

    assert Clock.gate.ended == ["passed"]


def test_a_tick_that_does_not_end_is_cancelled_after_the_drain_timeout(start):
    class Clock:
        name = "clock"
        gate = Gate()

        @timer(interval=1000, eager=True)
        def on_time(self):
            self.gate()

    container = start(Clock, {"drain_timeout": 0.02})
    Clock.gate.wait_for(1)

    container.stop()

    assert Clock.gate.ended == ["WorkerCancelled"]


def test_semantic_48_killing_aborts_the_tick(start):
    class Clock:
        name = "clock"
        gate = Gate()

        @timer(interval=1000, eager=True)
        def on_time(self):
            self.gate()

    container = start(Clock)
    Clock.gate.wait_for(1)

    container.kill()
    container.wait()

    assert Clock.gate.ended == ["GreenletExit"]


def test_semantic_48_it_fires_on_every_instance(start):
    class Clock:
        name = "clock"
        tick = Ticks()

        @timer(interval=1000, eager=True)
        def on_time(self):
            self.tick()

    start(Clock)
    start(Clock)

    Clock.tick.wait_for(2)


def test_a_timer_opens_no_socket(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a ZeroMQ context was made")

    class Clock:
        name = "clock"
        tick = Ticks()

        @timer(interval=1000, eager=True)
        def on_time(self):
            self.tick()

    monkeypatch.setattr(zmq, "Context", refuse)
    with run_services({}, Clock):
        Clock.tick.wait_for(1)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"interval": "5"}, r"@timer\(interval='5'\): a number of seconds above 0 is needed"),
        ({"interval": -1}, r"interval=-1"),
        ({"interval": True}, r"interval=True"),
        ({"interval": float("nan")}, r"interval=nan"),
        ({"interval": 0}, r"interval=0\): a number of seconds above 0 is needed, such as 60"),
        ({"interval": 0, "cluster": True}, r"interval=0\): a number of seconds above 0"),
        ({"interval": 1, "missed": "burst"}, r"@timer\(missed='burst'\): one of 'skip', 'catch_up' is needed"),
    ],
)
def test_what_makes_no_sense_is_told_at_the_declaration(options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        timer(**options)(lambda self: None)
