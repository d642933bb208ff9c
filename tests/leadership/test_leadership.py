"""Services whose instances know which of them leads: several instances in this process, each with a node of its own."""

import pytest

from tests.stage import until
from zmqservices.exceptions import ConfigurationError
from zmqservices.leadership import Leadership, leadership_gained, leadership_lost
from zmqservices.rpc import rpc
from zmqservices.testing.services import entrypoint_hook, worker_factory
from zmqservices.timer import timer


@pytest.fixture
def has_tokens(cluster_config):
    return cluster_config["DIRECTORY"].startswith("etcd:")


def service(told, name="cleaner"):
    """A service that tells what it hears of its leadership, in a list of its own."""

    class Cleaner:
        leader = Leadership()

        @rpc
        def state(self):
            return [self.leader.is_leader, self.leader.token]

        @leadership_gained
        def begin(self):
            told.append(("gained", self.leader.token))

        @leadership_lost
        def end(self):
            told.append(("lost", None))

    Cleaner.name = name
    return Cleaner


def state_of(container):
    with entrypoint_hook(container, "state") as state:
        return state()


def test_the_eldest_leads_and_the_next_one_when_it_has_stopped(serve, has_tokens):
    first, second = [], []
    elder = serve(service(first), elsewhere=True)
    until(lambda: first)
    younger = serve(service(second), elsewhere=True)
    leads, token = state_of(elder)

    assert leads and first == [("gained", token)]
    assert isinstance(token, int) is has_tokens
    assert state_of(younger) == [False, None]
    assert second == []

    elder.stop()

    until(lambda: second)
    leads, later = state_of(younger)
    assert leads and second == [("gained", later)]
    assert later is None if token is None else later > token
    assert first == [("gained", token)], "it did not lose it while it ran"


def test_it_is_lost_when_somebody_takes_the_record_away(serve, has_tokens):
    first, second = [], []
    elder = serve(service(first), elsewhere=True)
    until(lambda: first)
    younger = serve(service(second), elsewhere=True)

    # Its candidacy is withdrawn behind its back.
    (watch,) = [one for one in elder.extensions if type(one).__name__ == "LeadershipWatch"]
    watch.candidacy.resign()

    until(lambda: ("lost", None) in first and second)
    assert state_of(elder) == [False, None]
    assert state_of(younger)[0]


def test_names_are_led_independently(serve):
    class Two:
        name = "two"
        one = Leadership("one")
        other = Leadership("other")

        @rpc
        def state(self):
            return [self.one.is_leader, self.other.is_leader]

    class One:
        name = "two"
        one = Leadership("one")

        @rpc
        def state(self):
            return [self.one.is_leader]

    elder = serve(One, elsewhere=True)
    until(lambda: state_of(elder) == [True])
    younger = serve(Two, elsewhere=True)

    until(lambda: state_of(younger) == [False, True])


def test_a_cluster_timer_fires_on_the_leader_alone(serve):
    def ticking(ticks):
        class Clock:
            name = "clock"

            @timer(interval=0.02, cluster=True, eager=True)
            def tick(self):
                ticks.append(1)

        return Clock

    first, second = [], []
    elder = serve(ticking(first), elsewhere=True)
    until(lambda: first)
    serve(ticking(second), elsewhere=True)
    until(lambda: len(first) > 10)
    assert second == []

    elder.stop()

    until(lambda: second)


def test_a_killed_instance_hands_it_on(serve):
    first, second = [], []
    elder = serve(service(first), elsewhere=True)
    until(lambda: first)
    serve(service(second), elsewhere=True)

    elder.kill()

    until(lambda: second)


def test_in_a_test_of_the_service_the_dependency_is_replaced():
    told = []
    instance = worker_factory(service(told))
    instance.leader.is_leader, instance.leader.token = True, 7

    assert instance.state() == [True, 7]


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_name_that_is_none_is_quoted(name):
    with pytest.raises(ConfigurationError, match=f'the name of a leadership is {name!r}; a text is needed, such as "leader"'):
        Leadership(name)


def test_a_directory_of_fixed_addresses_is_refused(serve):
    with pytest.raises(ConfigurationError, match="cleaner.leader, which one of them does for all, needs local:"):
        serve(service([]), DIRECTORY="static:maths=tcp://127.0.0.1:4000")
