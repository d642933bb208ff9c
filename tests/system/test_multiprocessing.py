"""Pools and queues of processes work inside a service, and other calls go on meanwhile."""

import subprocess
import sys

import pytest

from tests.documents.examples import DOCS, blocks

SERVICE = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def square(number):
    return number * number


def squares(numbers, answers):
    while (number := numbers.get()) is not None:
        answers.put(number * number)


def pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(5))


def queue(method):
    context = multiprocessing.get_context(method)
    numbers, answers = context.Queue(), context.Queue()
    process = context.Process(target=squares, args=(numbers, answers))
    process.start()
    for number in range(5):
        numbers.put(number)
    found = [answers.get() for _ in range(5)]
    numbers.put(None)
    process.join()
    return found


def executor(method):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        return list(pool.map(square, range(5)))
"""

PROGRAM = """
if __name__ == "__main__":
    from zmqservices.cli.patching import monkey_patch; monkey_patch()
    import sys, gevent
    gevent.get_hub().loop.install_sigchld()
    sys.path.insert(0, sys.argv[1])
    import work
    from discovery.server.registry_server import RegistryServer
    from zmqservices.containers import ServiceContainer
    from zmqservices.rpc import rpc
    from zmqservices.standalone.rpc import ClusterRpcProxy

    class Works:
        name = "works"

        @rpc
        def work(self, how, method):
            return getattr(work, how)(method)

        @rpc
        def ping(self):
            return "pong"

    registry = RegistryServer("tcp://127.0.0.1:0"); registry.start(); registry.wait_bound(10)
    config = {"DIRECTORY": registry.url, "DIRECTORY_CACHE": "none"}
    container = ServiceContainer(Works, config)
    container.start()
    with ClusterRpcProxy(config, timeout=40) as cluster:
        for how in ("pool", "queue", "executor"):
            call = cluster.works.work.call_async(how, sys.argv[2])
            pinged = 0
            while call._call.stage != 2:
                cluster.works.ping()
                pinged += 1
                gevent.sleep(0.005)
            print(how, call.result(), pinged > 0, flush=True)
    container.kill()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_and_queues_work_and_freeze_nothing(tmp_path, method):
    (tmp_path / "work.py").write_text(SERVICE)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path), method]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    expected = "".join(f"{how} [0, 1, 4, 9, 16] True\n" for how in ("pool", "queue", "executor"))
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


RECIPE = """
if __name__ == "__main__":
    from zmqservices.cli.patching import monkey_patch; monkey_patch()
    import sys
    sys.path.insert(0, sys.argv[1])
    from primes import Primes
    from discovery.server.registry_server import RegistryServer
    from zmqservices.containers import ServiceContainer
    from zmqservices.standalone.rpc import ServiceRpcProxy

    registry = RegistryServer("tcp://127.0.0.1:0"); registry.start(); registry.wait_bound(10)
    config = {"DIRECTORY": registry.url, "DIRECTORY_CACHE": "none"}
    container = ServiceContainer(Primes, config)
    container.start()
    with ServiceRpcProxy("primes", config, timeout=40) as primes:
        print(primes.count([10, 100, 1000]))
    container.stop()
"""


def test_the_recipe_of_the_guide_holds(tmp_path):
    (recipe,) = blocks((DOCS / "processes.rst").read_text("utf-8"))
    (tmp_path / "primes.py").write_text(recipe)
    (tmp_path / "program.py").write_text(RECIPE)

    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout) == (0, "[4, 25, 168]\n"), done.stderr
