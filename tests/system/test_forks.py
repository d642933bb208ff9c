"""A process that forks while it serves: the child is told, and its hub lives."""

import os
import subprocess
import sys

CODE = """
import gevent.monkey; gevent.monkey.patch_all()
import os, sys, gevent
from discovery.server import RegistryServer
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


def test_a_fork_of_a_service_is_told_that_its_sockets_are_the_parent_s_and_its_hub_goes_on():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=50, env=dict(os.environ))

    assert done.returncode == 0, done.stderr
    assert done.stdout == "7 True after\n"
