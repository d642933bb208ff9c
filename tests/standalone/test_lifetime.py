"""How long a standalone client lives: blocks of several threads, clients that nobody stopped, and what they take."""

import gc
import os
import resource
import subprocess
import sys
import threading

import gevent
import pytest

from tests.stage import Aside, aside, until
from zmqservices.rpc import rpc
from zmqservices.standalone.events import event_dispatcher
from zmqservices.standalone.rpc import ClusterRpcProxy, ServiceRpcProxy


class Words:
    name = "words"

    @rpc
    def echo(self, value):
        return value


def files():
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="files are counted where /proc is")


def test_the_last_thread_that_leaves_a_shared_block_stops_the_client(serve, cluster_config):
    serve(Words)
    client = ServiceRpcProxy("words", cluster_config)
    everybody_is_in = threading.Barrier(3)

    def request(number):
        with client as words:
            everybody_is_in.wait(10)
            return [words.echo(number + index) for index in range(number)]

    threads = [Aside(request, number) for number in (1, 5, 50)]

    assert [thread.get() for thread in threads] == [list(range(number, 2 * number)) for number in (1, 5, 50)]
    assert client._client is None


def test_requests_that_share_a_client_never_end_each_other(serve, cluster_config):
    serve(Words, max_workers=50)
    client = ServiceRpcProxy("words", cluster_config)

    def requests(number):
        for index in range(10):
            with client as words:
                assert words.echo((number, index)) == (number, index)

    threads = [Aside(requests, number) for number in range(6)]

    for thread in threads:
        thread.get(30)
    assert client._client is None


def test_a_client_that_was_started_outlives_its_blocks(serve, cluster_config):
    serve(Words)
    client = ServiceRpcProxy("words", cluster_config)
    words = client.start()

    with client:
        pass

    assert words.echo(1) == 1
    client.stop()


def test_stop_ends_it_for_all_blocks_and_their_ends_do_not_touch_the_next_one(serve, cluster_config):
    serve(Words)
    client = ServiceRpcProxy("words", cluster_config)

    with client as old:
        client.stop()
        words = client.start()

    with pytest.raises(RuntimeError, match="can no longer be used"):
        old.echo(1)
    assert words.echo(2) == 2
    client.stop()


def test_the_block_of_a_dispatcher_ends_with_the_last_thread_that_leaves(cluster_config, tmp_path):
    dispatch = event_dispatcher({**cluster_config, "JOURNAL_FOLDER": str(tmp_path)})

    with dispatch:
        with dispatch:
            pass
        dispatch("orders", "order.paid", 1)

    with pytest.raises(RuntimeError, match="can no longer be used"):
        dispatch("orders", "order.paid", 2)


# --- nobody stopped it ---------------------------------------------------------------------------------------


@needs_proc
def test_a_client_that_nobody_holds_any_more_gives_everything_back_and_warns(serve, cluster_config):
    serve(Words)

    def use():
        words = ServiceRpcProxy("words", cluster_config).start()
        assert aside(words.echo, 1) == words.echo(1) == 1

    with pytest.warns(ResourceWarning, match="a standalone RPC client of tcp://.* was never stopped"):
        use()
        gc.collect()
    until(lambda: threading.active_count() >= 1)
    before = files()
    for _ in range(3):
        with pytest.warns(ResourceWarning, match="was never stopped"):
            use()
            gc.collect()

    until(lambda: files() <= before)


def test_a_call_that_is_awaited_keeps_its_client(serve, cluster_config):
    serve(Words)
    call = ServiceRpcProxy("words", cluster_config).start().echo.call_async(1)
    gc.collect()

    assert call.result() == 1
    with pytest.warns(ResourceWarning, match="was never stopped"):
        del call
        gc.collect()


def test_a_client_that_was_stopped_or_never_started_warns_of_nothing(serve, cluster_config, recwarn):
    ClusterRpcProxy(cluster_config)
    ClusterRpcProxy(cluster_config).start()._client.stop()
    with ClusterRpcProxy(cluster_config):
        pass
    gc.collect()

    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


@needs_proc
def test_a_dispatcher_that_nobody_holds_any_more_closes_its_journal(cluster_config, tmp_path):
    settings = {**cluster_config, "JOURNAL_FOLDER": str(tmp_path), "events_wait_for_peers": 0.1}

    def use():
        event_dispatcher(settings)("orders", "order.paid", 1)

    def target(fd):
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return ""  # It was closed meanwhile.

    def journals():
        return [fd for fd in os.listdir("/proc/self/fd") if str(tmp_path) in target(fd)]

    with pytest.warns(ResourceWarning, match="an event dispatcher was never stopped"):
        aside(use)
        gc.collect()

    until(lambda: not journals())


@needs_proc
def test_a_further_client_takes_few_descriptors(serve, cluster_config):
    serve(Words)

    def use(client):
        words = client.start()
        aside(words.echo, 1)
        return files()

    clients = [ServiceRpcProxy("words", cluster_config) for _ in range(2)]
    one, two = (use(client) for client in clients)
    for _ in range(20):  # A file that is being written just now does not count.
        gevent.sleep(0.02)
        two = min(two, files())
    for client in clients:
        client.stop()

    assert two - one <= 12


STARVED = """
import os, resource, sys, warnings
from zmqservices.standalone.rpc import ClusterRpcProxy
config = {"DIRECTORY": "tcp://127.0.0.1:1", "DIRECTORY_CACHE": "none", "rpc_wait_for_service": 0.01}
with ClusterRpcProxy(config) as cluster:  # All that is imported late is there now.
    try: cluster.words.echo(1)
    except Exception: pass
used = len(os.listdir("/proc/self/fd"))
told = set()
for room in range(-6, 16):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        with ClusterRpcProxy(config) as cluster:
            cluster.words.echo(1)
    except Exception as exc:
        told.add(type(exc).__name__)
print("UnknownService" in told, sorted(told))
"""


@needs_proc
def test_a_process_without_descriptors_left_is_told_so_and_nothing_strays():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run([sys.executable, "-X", "dev", "-c", STARVED], capture_output=True, text=True, timeout=50)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True"), done.stdout
    assert "Exception ignored" not in done.stderr
    assert "ResourceWarning" not in done.stderr
