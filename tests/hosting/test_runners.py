"""Several services in one process (semantic 19), with both ways of calling: with a configuration and without."""

import gevent
import pytest
from gevent.event import Event

from tests.hosting.stage import Call, entry, entrypoint_of
from zmqservices import config
from zmqservices.extensions import DependencyProvider
from zmqservices.runners import ServiceRunner, run_services


class Noted(DependencyProvider):
    def __init__(self, steps):
        self.steps = steps

    def start(self):
        self.steps.append((self.container.service_name, "start"))

    def stop(self):
        self.steps.append((self.container.service_name, "stop"))

    def kill(self):
        self.steps.append((self.container.service_name, "kill"))


@pytest.fixture
def steps():
    return []


@pytest.fixture
def make_service(steps):
    def make(service_name):
        class Service:
            name = service_name
            noted = Noted(steps)

            @entry
            def run(self):
                return service_name

        return Service

    return make


@pytest.fixture
def make_runner():
    runners = []

    def make(*services, config=None):
        runner = ServiceRunner(config)
        runners.append(runner)
        for service in services:
            runner.add_service(service)
        return runner

    yield make
    for runner in runners:
        runner.kill()


def test_services_are_started_and_stopped_together(make_runner, make_service, steps):
    runner = make_runner(make_service("a"), make_service("b"))

    runner.start()
    runner.stop()

    assert sorted(steps) == [("a", "start"), ("a", "stop"), ("b", "start"), ("b", "stop")]
    assert [what for _, what in steps] == ["start", "start", "stop", "stop"]
    assert list(runner.service_names) == ["a", "b"]
    assert runner.wait() is None


def test_19_the_last_of_two_services_with_one_name_is_kept(make_runner, make_service):
    first, second = make_service("a"), make_service("a")

    runner = make_runner(first, second)

    assert [container.service_cls for container in runner.containers] == [second]


def test_19_when_one_container_dies_the_others_are_stopped_and_its_error_is_raised(
    make_runner, make_service, steps
):
    runner = make_runner(make_service("a"), make_service("b"))
    runner.start()
    dying, _ = runner.containers

    def fail():
        raise ValueError("a is ill")

    dying.spawn_managed_thread(fail)

    with pytest.raises(ValueError, match="a is ill"):
        runner.wait()
    assert ("a", "kill") in steps and ("b", "stop") in steps and ("b", "kill") not in steps


def test_waiting_ends_when_all_have_stopped(make_runner, make_service):
    runner = make_runner(make_service("a"), make_service("b"))
    runner.start()
    waiting = gevent.spawn(runner.wait)
    first, second = runner.containers

    first.stop()
    gevent.sleep(0)
    assert not waiting.ready()
    second.stop()

    waiting.get(timeout=30)


@pytest.mark.parametrize("given", [True, False], ids=["configuration given", "global configuration"])
def test_services_are_run_for_the_length_of_a_block(make_service, steps, given):
    settings = {"max_workers": 7}
    services = [make_service("a"), make_service("b")]

    with config.patch({} if given else settings):
        with run_services(*([settings] if given else []), *services) as runner:
            assert {container.max_workers for container in runner.containers} == {7}
            results = [Call(container, "run").result() for container in runner.containers]

    assert results == ["a", "b"]
    assert [what for _, what in steps] == ["start", "start", "stop", "stop"]


def test_19_services_are_stopped_even_if_the_block_raises(make_service, steps):
    with pytest.raises(ZeroDivisionError):
        with run_services({}, make_service("a")):
            raise ZeroDivisionError

    assert steps == [("a", "start"), ("a", "stop")]


def test_services_are_killed_at_the_end_if_that_was_asked_for(make_service, steps):
    with run_services(make_service("a"), kill_on_exit=True):
        pass

    assert steps == [("a", "start"), ("a", "kill")]


def test_if_one_service_cannot_start_the_started_ones_are_killed(make_service, steps):
    class Failing(DependencyProvider):
        def start(self):
            raise ValueError("no")

    class Service:
        name = "failing"
        failing = Failing()

    with pytest.raises(ValueError, match="no"):
        with run_services({}, make_service("a"), Service):
            raise AssertionError("the block must not be run")

    assert ("a", "kill") in steps


def test_a_stopping_runner_lets_calls_end(make_runner):
    may_end = Event()

    class Service:
        name = "slow"

        @entry
        def run(self):
            may_end.wait(30)
            return "done"

    runner = make_runner(Service, config={})
    runner.start()
    (container,) = runner.containers
    call = Call(container, "run")
    stopping = gevent.spawn(runner.stop)
    gevent.sleep(0)

    may_end.set()
    stopping.get(timeout=30)

    assert call.result() == "done"
    assert entrypoint_of(container, "run") in container.extensions
