"""Several instances of one service in one process, which share its node: each has an id, and its share of the calls."""

import gevent
import pytest

from tests.rpc.test_membership import node_of, records
from tests.stage import Gate, until
from zmqservices.cluster.calls.incoming import Served
from zmqservices.cluster.calls.services import described, least_busy
from zmqservices.cluster.calls.welcomed_services import WelcomedServices
from zmqservices.exceptions import CallCancelled
from zmqservices.rpc import rpc
from zmqservices.runners import run_services


def open_gate():
    gate = Gate()
    gate.open()
    return gate


def words(said=None, gate=None):
    """A service that says which instance answers."""

    class Words:
        name = "words"
        wait = gate or open_gate()

        @rpc
        def which(self):
            self.wait()
            return said

    return Words


# --- the rule --------------------------------------------------------------------------------------------------------------


def served(instance, open_calls=0, is_draining=False, idempotent=()):
    one = Served("words", instance, None, None, None, idempotent)
    one.open_calls, one.is_draining = open_calls, is_draining
    return one


def test_the_instance_with_the_fewest_calls_takes_the_next():
    instances = [served("a", 2), served("b", 1), served("c", 3)]

    assert least_busy(instances).instance == "b"


def test_equally_busy_ones_take_turns():
    instances = [served("a"), served("b"), served("c")]

    assert [least_busy(instances).instance for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_one_that_drains_takes_nothing_while_another_does_not():
    instances = [served("a", 0, is_draining=True), served("b", 5)]

    assert {least_busy(instances).instance for _ in range(3)} == {"b"}
    instances[:] = [served("a", is_draining=True)]
    assert least_busy(instances).instance == "a"


def test_a_welcome_names_those_that_take_calls_and_what_all_of_them_may_repeat():
    instances = [served("a", idempotent=["x", "y"]), served("b", idempotent=["y"]), served("c", is_draining=True)]

    assert described(instances) == {"idempotent": ["y"], "draining": False, "instances": ["a", "b"]}
    assert described(instances[2:]) == {"idempotent": [], "draining": True, "instances": []}


# --- calls -----------------------------------------------------------------------------------------------------------------


def test_each_is_listed_with_an_id_of_its_own_at_the_endpoint_of_the_node(serve):
    first, second = serve(words()), serve(words())

    until(lambda: len(records(first, "words")) == 2)
    one, other = records(first, "words")
    assert node_of(first) is node_of(second)
    assert one.instance != other.instance and one.endpoints == other.endpoints and one.node == other.node


def test_they_take_turns(serve, cluster):
    serve(words("first"))
    serve(words("second"))

    answers = [cluster.words.which() for _ in range(10)]

    assert answers.count("first") == answers.count("second") == 5


def test_calls_at_once_go_to_the_idle_one(serve, connect):
    gate = Gate()
    serve(words("first", gate), max_workers=1)
    serve(words("second", gate), max_workers=1)
    cluster = connect()

    calls = [cluster.words.which.call_async() for _ in range(2)]
    gate.wait_for(2)
    gate.open()

    assert sorted(call.result() for call in calls) == ["first", "second"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_when_one_goes_the_other_goes_on_and_no_call_fails(serve, cluster, end):
    first, second = serve(words("first")), serve(words("second"))
    answers = []

    def call_on():
        while len(answers) < 400:
            answers.append(cluster.words.which())

    calling = gevent.spawn(call_on)
    until(lambda: len(answers) > 50)
    getattr(first, end)()
    answers.append("gone")
    calling.get(timeout=10)

    assert set(answers[: answers.index("gone")]) == {"first", "second"}
    assert set(answers[answers.index("gone") + 2 :]) == {"second"}
    until(lambda: len(records(second, "words")) == 1)
    peers = {id(peer): peer for peer in node_of(second).caller._peer_pool.peers.values()}
    assert all(len(peer.instances) <= 1 for peer in peers.values())


def test_a_stop_waits_for_the_calls_of_its_own_instance_alone(serve, connect):
    gate = Gate()
    first, second = serve(words("first", gate), max_workers=1), serve(words("second", gate), max_workers=1)
    cluster = connect()
    calls = [cluster.words.which.call_async() for _ in range(2)]
    gate.wait_for(2)

    stopping = gevent.spawn(first.stop)
    third = cluster.words.which.call_async()
    gevent.sleep(0.05)
    assert not stopping.ready()
    gate.open()

    stopping.get(timeout=30)
    assert sorted(call.result() for call in calls) == ["first", "second"]
    assert third.result() == "second"
    assert second.queued == 0


def test_a_kill_ends_the_calls_of_its_own_instance_alone(serve, connect):
    gate = Gate()
    first = serve(words("first", gate), max_workers=1)
    serve(words("second", gate), max_workers=1)
    cluster = connect()
    calls = [cluster.words.which.call_async() for _ in range(2)]
    gate.wait_for(2)

    first.kill()
    gate.open()

    outcomes = []
    for call in calls:
        try:
            outcomes.append(call.result())
        except CallCancelled:
            outcomes.append("cancelled")
    assert sorted(outcomes) == ["cancelled", "second"]


def test_one_that_comes_after_all_were_gone_is_called_on_the_same_link(serve, cluster):
    class Other:
        name = "other"

        @rpc
        def hello(self):
            return "hello"

    serve(Other)
    serve(words("first")).stop()
    assert cluster.other.hello() == "hello"

    serve(words("second"))

    assert cluster.words.which() == "second"


def test_a_number_is_free_again_when_its_instance_is_gone(serve):
    def number_of(container):
        return next(one for one in container.extensions if hasattr(one, "registration")).number()

    first, second = serve(words()), serve(words())
    assert (number_of(first), number_of(second)) == (1, 2)
    first.stop()

    assert number_of(serve(words())) == 1


def test_two_runners_of_one_service_share_a_process(cluster_config, cluster):
    with run_services(cluster_config, words("first")):
        with run_services(cluster_config, words("second")):
            assert {cluster.words.which() for _ in range(4)} == {"first", "second"}
        assert {cluster.words.which() for _ in range(4)} == {"first"}


# --- what a caller hears -----------------------------------------------------------------------------------------------------


def test_instances_of_a_list_that_knows_no_ids_are_not_told_apart(serve, connect, free_port):
    serve(words("first"), BIND_ADDRESS=f"tcp://127.0.0.1:{free_port}")
    serve(words("second"), BIND_ADDRESS=f"tcp://127.0.0.1:{free_port}")

    cluster = connect(DIRECTORY=f"static:words=tcp://127.0.0.1:{free_port}")

    assert {cluster.words.which() for _ in range(4)} == {"first", "second"}


@pytest.mark.parametrize("named", [None, "a", 7, {"a": 1}, [["a"]], [None]])
def test_what_a_welcome_says_of_instances_may_be_anything(named):
    welcomed = WelcomedServices({"services": {"words": {"instances": named}, "maths": "junk"}})

    assert welcomed.serves("words", "a") is not isinstance(named, list)
    assert welcomed.serves("maths", "a")
