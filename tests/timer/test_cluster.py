"""Timers of which one fires for the whole service: several instances in this process, each with a node of its own."""

import gevent
import pytest

from tests.rpc.test_membership import node_of, records
from tests.stage import Gate, until
from tests.timer.test_timer import Ticks
from zmqservices.exceptions import ConfigurationError
from zmqservices.rpc import rpc
from zmqservices.runners import run_services
from zmqservices.timer import timer


def clock(ticks, name="clock", **options):
    """A service with a cluster timer, whose ticks go to a list of its own."""

    class Clock:
        tick = ticks

        @timer(cluster=True, **{"interval": 0.01, **options})
        def on_time(self):
            self.tick()

    Clock.name = name
    return Clock


def is_listed(container, count):
    return len(records(container, container.service_name)) == count


def test_one_instance_fires_and_the_eldest_it_is(serve):
    first, second = Ticks(), Ticks()
    elder = serve(clock(first), elsewhere=True)
    first.wait_for(1)

    younger = serve(clock(second), elsewhere=True)
    until(lambda: is_listed(elder, 2) and is_listed(younger, 2))
    first.wait_for(len(first.times) + 5)

    assert second.times == []


def test_another_takes_over_when_it_stops_and_not_before_its_tick_is_over(serve):
    class Slow:
        name = "clock"
        gate = Gate()

        @timer(interval=0.01, cluster=True)
        def on_time(self):
            self.gate()

    second = Ticks()
    elder = serve(Slow, elsewhere=True)
    Slow.gate.wait_for(1)
    younger = serve(clock(second), elsewhere=True)
    until(lambda: is_listed(younger, 2))
    stopping = gevent.spawn(elder.stop)
    gevent.sleep(0.05)
    assert second.times == []

    Slow.gate.open()
    stopping.get(timeout=30)

    second.wait_for(2)


def test_another_takes_over_when_it_is_killed(serve):
    first, second = Ticks(), Ticks()
    elder = serve(clock(first), elsewhere=True)
    first.wait_for(1)
    serve(clock(second), elsewhere=True)

    elder.kill()

    second.wait_for(2)


def test_an_eager_one_fires_at_the_start_where_it_leads(serve):
    first, second = Ticks(), Ticks()
    elder = serve(clock(first, interval=1000, eager=True), elsewhere=True)
    first.wait_for(1)

    younger = serve(clock(second, interval=1000, eager=True), elsewhere=True)
    until(lambda: is_listed(younger, 2) and is_listed(elder, 2))
    younger.stop()

    assert second.times == []


def test_a_version_without_the_timer_keeps_it_from_nobody(serve):
    class Older:
        name = "clock"

        @rpc
        def nothing(self):
            pass

    ticks = Ticks()
    serve(Older, elsewhere=True)
    serve(clock(ticks), elsewhere=True)

    ticks.wait_for(2)


def test_other_services_and_other_namespaces_have_timers_of_their_own(serve):
    first, second, third = Ticks(), Ticks(), Ticks()
    serve(clock(first))
    serve(clock(second, name="other-clock"))
    serve(clock(third), NAMESPACE="elsewhere")

    for ticks in (first, second, third):
        ticks.wait_for(2)


def test_a_service_with_nothing_but_a_timer_is_listed_and_opens_no_socket_for_calls(serve):
    ticks = Ticks()
    container = serve(clock(ticks))
    ticks.wait_for(1)

    (record,) = records(container, "clock")
    assert (record.endpoints, record.methods, record.state) == ({}, {}, "UP")
    assert record.tags == {"duties": ["on_time"]}
    assert node_of(container).call_server is None


def test_methods_and_timers_of_a_service_are_one_instance(serve, connect):
    ticks = Ticks()

    class Both(clock(ticks)):
        @rpc
        def hello(self):
            return "hello"

    container = serve(Both)
    ticks.wait_for(1)

    assert connect().clock.hello() == "hello"
    (record,) = records(container, "clock")
    assert list(record.methods) == ["hello"]
    assert record.tags == {"duties": ["on_time"]}


def test_it_leaves_nothing_behind(serve, cluster_config):
    ticks = Ticks()
    watcher = serve(clock(Ticks(), name="watcher"), elsewhere=True)
    with run_services(cluster_config, clock(ticks)):
        until(lambda: is_listed(watcher, 1))
        until(lambda: records(watcher, "clock"))

    until(lambda: not records(watcher, "clock"))


def test_a_process_that_was_never_told_of_others_does_not_fire(serve):
    ticks = Ticks()
    container = serve(clock(ticks, eager=True), DIRECTORY="tcp://127.0.0.1:9", DIRECTORY_CACHE="none")
    until(lambda: is_listed(container, 1))
    gevent.sleep(0.05)

    assert ticks.times == []
    with gevent.Timeout(30):
        container.stop()


def test_a_directory_that_was_written_down_beforehand_cannot_tell_who_is_there(serve):
    with pytest.raises(ConfigurationError, match="clock.on_time, which one of them does for all, needs local:, tcp://"):
        serve(clock(Ticks()), DIRECTORY="static:clock=tcp://127.0.0.1:4000")


# --- several instances in one process, which share its node ------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_of_instances_that_share_a_node_the_eldest_fires_and_the_next_takes_over(serve, end):
    ticks = [Ticks() for _ in range(3)]
    containers = [serve(clock(one)) for one in ticks]
    until(lambda: is_listed(containers[0], 3))
    ticks[0].wait_for(5)
    assert ticks[1].times == ticks[2].times == []

    getattr(containers[0], end)()

    ticks[1].wait_for(5)
    assert ticks[2].times == []
