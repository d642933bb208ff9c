"""The life of a standalone client, on a hub: started, used, stopped, started again."""

import gevent
import pytest

from tests.stage import until
from zmqservices import config
from zmqservices.exceptions import CallCancelled, RpcTimeout, UnknownService
from zmqservices.rpc import rpc
from zmqservices.standalone import rpc as standalone
from zmqservices.standalone.rpc import ClusterRpcClient, ClusterRpcProxy, ServiceRpcClient, ServiceRpcProxy


class Words:
    name = "words"

    @rpc
    def hello(self, name="you"):
        return f"hello {name}"

    @rpc
    def slow(self):
        gevent.sleep(10)


def test_the_names_of_both_versions_of_nameko_are_there():
    assert standalone.ClusterRpcProxy is standalone.ClusterRpcClient
    assert standalone.ServiceRpcProxy is standalone.ServiceRpcClient


def test_a_cluster_client_calls_any_service(serve, cluster_config):
    serve(Words)

    with ClusterRpcProxy(cluster_config) as cluster:
        assert cluster.words.hello() == "hello you"
        assert cluster["words"].hello("Ada") == "hello Ada"


def test_a_service_client_calls_one_service(serve, cluster_config):
    serve(Words)

    with ServiceRpcProxy("words", cluster_config, timeout=30) as words:
        assert words.hello("Ada") == "hello Ada"
        assert words.hello.call_async("Bob").result() == "hello Bob"


def test_start_and_stop_do_as_the_block_does(serve, cluster_config):
    serve(Words)
    client = ClusterRpcClient(cluster_config)

    cluster = client.start()

    assert cluster.words.hello() == "hello you"
    client.stop()


def test_without_a_configuration_the_process_s_own_holds(serve, cluster_config):
    serve(Words)
    config.update(cluster_config)

    with ServiceRpcClient("words") as words:
        assert words.hello() == "hello you"


def test_the_global_configuration_may_be_set_after_the_client_is_made(serve, cluster_config):
    serve(Words)
    client = ServiceRpcClient("words")

    with config.patch(cluster_config), client as words:
        assert words.hello() == "hello you"


def test_options_of_nameko_s_clients_are_accepted(serve, cluster_config):
    serve(Words)

    with ClusterRpcProxy(cluster_config, reply_listener_cls=object, context_data={"language": "en"}) as cluster:
        assert cluster.words.hello() == "hello you"


def test_38_after_its_block_a_proxy_can_no_longer_be_used(serve, cluster_config):
    serve(Words)

    with ClusterRpcProxy(cluster_config) as cluster:
        method = cluster.words.hello
        method()

    for use in (method, cluster.words.hello, cluster.words.hello.call_async, cluster["other"].hello):
        with pytest.raises(RuntimeError, match="can no longer be used"):
            use()


def test_38_a_client_that_was_never_called_is_stopped_as_well(cluster_config):
    with ClusterRpcProxy(cluster_config) as cluster:
        pass

    with pytest.raises(RuntimeError, match="can no longer be used"):
        cluster.words.hello()


def test_38_a_client_may_be_entered_again(serve, cluster_config):
    serve(Words)
    client = ClusterRpcProxy(cluster_config)

    for _ in range(3):
        with client as cluster:
            assert cluster.words.hello() == "hello you"


def test_starting_twice_gives_the_same_client_and_stopping_twice_is_nothing(serve, cluster_config):
    serve(Words)
    client = ClusterRpcProxy(cluster_config)

    one, other = client.start(), client.start()

    assert one.words.hello() == other.words.hello()
    client.stop()
    client.stop()
    with pytest.raises(RuntimeError):
        one.words.hello()


def test_37_after_a_timeout_the_client_is_as_good_as_before(serve, cluster_config):
    serve(Words)

    with ServiceRpcProxy("words", cluster_config, timeout=0.05) as words:
        words.hello.with_timeout(10)()
        for _ in range(3):
            with pytest.raises(RpcTimeout):
                words.slow()
            assert words.hello.with_timeout(10)() == "hello you"


def test_stop_ends_calls_of_other_greenlets(serve, cluster_config):
    serve(Words)
    client = ClusterRpcProxy(cluster_config)
    cluster = client.start()
    cluster.words.hello()
    waiting = [gevent.spawn(cluster.words.slow) for _ in range(3)]
    waiting.append(gevent.spawn(cluster.nobody.hello))
    gevent.sleep(0.02)

    client.stop()

    for greenlet in waiting:
        with pytest.raises(CallCancelled, match="the client was stopped"):
            greenlet.get(timeout=30)


def test_a_client_finds_the_next_instance_after_a_restart(serve, cluster_config):
    with ServiceRpcProxy("words", cluster_config) as words:
        for _ in range(3):
            container = serve(Words)
            assert words.hello() == "hello you"
            container.kill()


def test_a_client_without_a_registry_says_how_it_stands(free_port, cluster_config):
    settings = {**cluster_config, "DIRECTORY": f"tcp://127.0.0.1:{free_port}", "rpc_wait_for_service": 0.05}

    with (
        ServiceRpcProxy("words", settings) as words,
        pytest.raises(UnknownService, match=rf"no instance of 'words' is known; directory tcp://127\.0\.0\.1:{free_port}"),
    ):
        words.hello()


def test_a_static_directory_needs_no_registry(serve, cluster_config, free_port):
    endpoint = f"tcp://127.0.0.1:{free_port}"
    serve(Words, BIND_ADDRESS=endpoint)

    with ClusterRpcProxy({**cluster_config, "DIRECTORY": f"static:words={endpoint}"}) as cluster:
        assert cluster.words.hello() == "hello you"


def test_a_client_waits_for_a_registry_that_is_just_starting(cluster_config, serve):
    from discovery.server.registry_server import RegistryServer

    first = RegistryServer("tcp://127.0.0.1:0")
    first.start()
    first.wait_bound(30)
    url = first.url
    first.stop()
    with ClusterRpcProxy({**cluster_config, "DIRECTORY": url, "rpc_wait_for_service": 10}) as cluster:
        waiting = gevent.spawn(cluster.words.hello)
        gevent.sleep(0.05)
        registry = RegistryServer(url)
        registry.start()
        registry.wait_bound(30)
        try:
            serve(Words, DIRECTORY=url)
            assert waiting.get(timeout=10) == "hello you"
        finally:
            registry.stop()


def test_clients_leave_no_file_open(serve, cluster_config):
    import os

    serve(Words)

    def use():
        with ClusterRpcProxy(cluster_config) as cluster:
            cluster.words.hello()

    def count():
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("files are counted where /proc is")
    use()
    before = count()
    for _ in range(5):
        use()

    until(lambda: count() <= before)


def test_a_client_says_how_it_sees_the_services_that_it_calls(serve, cluster_config):
    serve(Words)
    client = ClusterRpcProxy(cluster_config)
    with client as cluster:
        assert client.call_state() == []
        cluster.words.hello()
        [service] = client.call_state()

    [instance] = service["instances"]
    assert (service["service"], service["calls"], instance["condition"], instance["in_flight"]) == ("words", 1, "up", 0)
    assert client.call_state() == []
