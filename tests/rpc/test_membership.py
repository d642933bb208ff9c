"""A process's place in the cluster: shared nodes, addresses, and settings that make no sense."""

import gevent
import pytest
import zmq

from zmqservices.cluster.node import Node
from zmqservices.containers import ServiceContainer
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import Entrypoint
from zmqservices.membership import Membership
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.runners import run_services


class Words:
    name = "words"

    @rpc
    def hello(self):
        return "hello"


class Caller:
    name = "caller"
    words = RpcProxy("words")

    @rpc
    def hello(self):
        return self.words.hello()


def node_of(container):
    return next(one for one in container.extensions if isinstance(one, Membership)).join()


def records(container, service):
    directory = node_of(container).directory
    directory.add_interest([service])
    return [seen.record for seen in directory.service(service)]


def test_services_of_one_process_share_a_node(serve, cluster):
    words, caller = serve(Words), serve(Caller)

    assert cluster.caller.hello() == "hello"
    assert node_of(words) is node_of(caller)
    assert records(words, "words")[0].endpoints == records(words, "caller")[0].endpoints


def test_other_settings_make_another_node(serve):
    one, other = serve(Words), serve(Caller, elsewhere=True)

    assert node_of(one) is not node_of(other)


def test_the_node_is_left_by_the_last_service(cluster_config):
    before = len(Node._nodes)

    with run_services(cluster_config, Words, Caller):
        assert len(Node._nodes) == before + 1

    assert len(Node._nodes) == before


def test_a_container_without_rpc_opens_no_socket(cluster_config, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a ZeroMQ context was made")

    class Entry(Entrypoint):
        pass

    class Quiet:
        name = "quiet"

        @Entry.decorator
        def nothing(self):
            pass

    monkeypatch.setattr(zmq, "Context", refuse)
    with run_services(cluster_config, Quiet):
        gevent.sleep(0)


def test_a_container_that_only_calls_opens_no_socket_for_calls(serve, cluster_config):
    class Entry(Entrypoint):
        pass

    class OnlyCalls:
        name = "only-calls"
        words = RpcProxy("words")

        @Entry.decorator
        def nothing(self):
            pass

    container = serve(OnlyCalls)

    assert node_of(container).call_server is None
    assert records(container, "only-calls") == []


def test_a_record_tells_what_there_is_to_call(serve, cluster):
    class Described:
        name = "described"

        @rpc(idempotent=True)
        def look(self, word: str, *, exact: bool = False) -> int:
            """Find a word."""

        @rpc
        def change(self, *args, **kwargs):
            pass

    container = serve(Described)
    gevent.sleep(0.02)

    (record,) = records(container, "described")
    assert record.methods == {
        "look": {
            "idempotent": True,
            "signature": "(word: str, *, exact: bool = False) -> int",
            "doc": "Find a word.",
        },
        "change": {"idempotent": False, "signature": "(*args, **kwargs)", "doc": ""},
    }
    assert record.state == "UP"
    assert record.endpoints["rpc"].startswith("tcp://127.0.0.1:")


# --- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["BIND_ADDRESS", "ADVERTISE_ADDRESS"])
@pytest.mark.parametrize("value", ["nonsense", "tcp://", "ipc://somewhere", "tcp://127.0.0.1:99999", "tcp://127.0.0.1"])
def test_an_address_that_makes_no_sense_is_quoted(serve, key, value):
    with pytest.raises(ConfigurationError, match=f"{key} is '{value}'; 'tcp://HOST:PORT' is needed"):
        serve(Words, **{key: value})


@pytest.mark.parametrize("value", [4190, "", ["tcp://127.0.0.1:0"]])
@pytest.mark.parametrize("key", ["BIND_ADDRESS", "ADVERTISE_ADDRESS", "DIRECTORY", "NAMESPACE"])
def test_a_setting_that_is_no_text_is_quoted(serve, connect, key, value):
    with pytest.raises(ConfigurationError) as caught:
        serve(Words, **{key: value})
    assert str(caught.value).startswith(f"{key} is {value!r}; a text is needed")

    if key in ("DIRECTORY", "NAMESPACE"):
        with pytest.raises(ConfigurationError) as caught:
            connect(**{key: value})
        assert str(caught.value).startswith(f"{key} is {value!r}")


@pytest.mark.parametrize("value", ["nonsense", "carrier-pigeon://loft", "tcp://nowhere", "static:"])
def test_a_directory_that_makes_no_sense_is_quoted(serve, connect, value):
    with pytest.raises(ConfigurationError) as caught:
        serve(Words, DIRECTORY=value)
    assert value in str(caught.value)

    with pytest.raises(ConfigurationError) as caught:
        connect(DIRECTORY=value)
    assert value in str(caught.value)


def test_an_address_that_is_taken_or_another_host_s_is_quoted(serve):
    taken = serve(Words)
    endpoint = node_of(taken).call_server.endpoint

    with pytest.raises(ConfigurationError, match=f"cannot bind '{endpoint}': .*is the address this host's own"):
        serve(Words, BIND_ADDRESS=endpoint)
    with pytest.raises(ConfigurationError, match=r"cannot bind 'tcp://192\.0\.2\.1:0'"):
        serve(Words, BIND_ADDRESS="tcp://192.0.2.1:0", INSECURE=True)


def test_a_service_may_be_bound_everywhere_and_advertised_at_one_address(serve, cluster):
    container = serve(Words, BIND_ADDRESS="tcp://*:0", ADVERTISE_ADDRESS="tcp://localhost:0", INSECURE=True)
    gevent.sleep(0.02)

    (record,) = records(container, "words")

    assert record.endpoints["rpc"].startswith("tcp://127.0.0.1:")
    assert not record.endpoints["rpc"].endswith(":0")
    assert cluster.words.hello() == "hello"


def test_bound_everywhere_it_advertises_the_address_towards_the_registry(serve, cluster):
    container = serve(Words, BIND_ADDRESS="tcp://*:0", INSECURE=True)
    gevent.sleep(0.02)

    assert records(container, "words")[0].endpoints["rpc"].startswith("tcp://127.0.0.1:")
    assert cluster.words.hello() == "hello"


def test_an_unknown_serializer_is_refused_when_the_container_is_made(cluster_config):
    with pytest.raises(ConfigurationError, match="serializer is 'pickle'"):
        ServiceContainer(Words, {**cluster_config, "serializer": "pickle"})


def test_an_unknown_serializer_of_a_client_is_refused(connect):
    with pytest.raises(ConfigurationError, match="serializer is 'pickle'"):
        connect(serializer="pickle")


def test_namespaces_do_not_see_each_other(serve, connect):
    serve(Words)

    assert connect().words.hello() == "hello"
    with pytest.raises(Exception, match="Unknown service `words`"):
        connect(NAMESPACE="another", rpc_wait_for_service=0.05).words.hello()


def test_a_service_at_a_fixed_address_is_found_again_after_a_restart(serve, connect, free_port):
    address = f"tcp://127.0.0.1:{free_port}"
    settings = {"DIRECTORY": f"static:words={address}", "BIND_ADDRESS": address}
    first = serve(Words, **settings)
    cluster = connect(DIRECTORY=settings["DIRECTORY"], rpc_wait_for_service=10)
    former = node_of(first).id
    assert cluster.words.hello() == "hello"

    first.stop()
    second = serve(Words, **settings)

    assert node_of(second).id != former
    assert cluster.words.hello() == "hello"
