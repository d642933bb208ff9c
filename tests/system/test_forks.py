"""A process that forks while it serves: the child is told, and its hub lives."""

import os
import subprocess
import sys

CODE = """
import gevent.monkey; gevent.monkey.patch_all()
import os, sys, gevent
gevent.get_hub().loop.install_sigchld()  # As `zmqservices run` does: else a child that ends at once is lost.
from discovery.server.registry_server import RegistryServer
from zmqservices.containers import ServiceContainer
from zmqservices.exceptions import ForkedProcessError
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.standalone.rpc import ClusterRpcProxy

registry = RegistryServer("tcp://127.0.0.1:0"); registry.start(); registry.wait_bound(10)
config = {"DIRECTORY": registry.url, "DIRECTORY_CACHE": "none"}

class Echo:
    name = "echo"
    @rpc
    def echo(self, value):
        return value

class Forks:
    name = "forks"
    echo = RpcProxy("echo")
    @rpc
    def fork(self):
        assert self.echo.echo(1) == 1
        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1]
        code = 1
        try:
            gevent.sleep(0.2)
            self.echo.echo(2)
        except ForkedProcessError:
            code = 7
        finally:
            os._exit(code)

containers = [ServiceContainer(cls, config) for cls in (Echo, Forks)]
for container in containers:
    container.start()
with ClusterRpcProxy(config, timeout=20) as cluster:
    print(os.waitstatus_to_exitcode(cluster.forks.fork()), cluster.forks.fork() is not None, cluster.echo.echo("after"))
for container in containers:
    container.kill()
"""


EVENTS = """
import gevent.monkey; gevent.monkey.patch_all()
import os, sys, tempfile, gevent
gevent.get_hub().loop.install_sigchld()
from discovery.server.registry_server import RegistryServer
from zmqservices.containers import ServiceContainer
from zmqservices.events import EventDispatcher
from zmqservices.exceptions import ForkedProcessError
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ClusterRpcProxy

registry = RegistryServer("tcp://127.0.0.1:0"); registry.start(); registry.wait_bound(10)
folder = tempfile.mkdtemp()
config = {"DIRECTORY": registry.url, "DIRECTORY_CACHE": "none", "JOURNAL_FOLDER": folder}

class Forks:
    name = "forks"
    dispatch = EventDispatcher()
    @rpc
    def fork(self, how):
        self.dispatch("before", 1)
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        code = 1
        try:
            with gevent.Timeout(5, False):
                source = container.dependencies and next(iter(container.dependencies))._source
                if how == "one":
                    self.dispatch("in the fork", 2)
                elif how == "best effort":
                    source.dispatch("in the fork", 2, None, None, None, False)
                else:
                    source.dispatch_all([("in the fork", b"", None, "msgpack", None)])
        except ForkedProcessError as exc:
            code = 7 if "fork" in str(exc) else 6
        finally:
            os._exit(code)

container = ServiceContainer(Forks, config)
container.start()
with ClusterRpcProxy(config, timeout=20) as cluster:
    for how in ("one", "best effort", "several"):
        print(cluster.forks.fork(how))
    print(cluster["events:forks"].stats()["journals"][0]["last_seq"])
container.stop()
"""


def test_a_fork_of_a_publisher_is_told_that_it_cannot_dispatch_and_the_parent_goes_on():
    done = subprocess.run([sys.executable, "-c", EVENTS], capture_output=True, text=True, timeout=50, env=dict(os.environ))

    assert done.returncode == 0, done.stderr
    assert done.stdout == "7\n7\n7\n3\n"


def test_a_fork_of_a_service_is_told_that_its_sockets_are_the_parent_s_and_its_hub_goes_on():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=50, env=dict(os.environ))

    assert done.returncode == 0, done.stderr
    assert done.stdout == "7 True after\n"
