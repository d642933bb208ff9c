"""A process that has large messages keeps their memory for the next ones, and gives it back while it has nothing to do."""

import os
import platform
import subprocess
import sys
import textwrap

import pytest

from zmqservices.transport import blocks
from zmqservices.wire.envelope import LARGE

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

PROGRAM = """
import os, time

from tests.discovery.stage import start_registry
from tests.system.processes import eventually
from zmqservices.containers import ServiceContainer
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ClusterRpcProxy
from zmqservices.transport import blocks
from zmqservices.utils import allocator

blocks.LOOK = 0.05
allocator.WORTH_A_TRIM = 0.001
MEGABYTE = 1024 * 1024

class Echo:
    name = "echo"

    @rpc
    def echo(self, value):
        return value

    @rpc
    def make(self, size):
        return bytes(size)

def threads():
    return len(os.listdir("/proc/self/task"))

def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def kept():
    # Bytes of this process if it keeps what it has freed; else 0.
    taken = [bytearray(b"x" * MEGABYTE) for _ in range(60)]
    full = rss()
    del taken
    left = rss()
    return left if full - left < 30 * MEGABYTE else 0

server = start_registry("tcp://127.0.0.1:0")
config = {"DIRECTORY": server.url}
container = ServiceContainer(Echo, config)
container.start()
client = ClusterRpcProxy(config)
echo = client.start().echo
echo.echo(b"")
began = threads()
"""


def run(code, **environ):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM) + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=50, env={**os.environ, **environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_without_large_messages_is_left_as_it_is():
    assert run(f"""
        for _ in range(20):
            assert len(echo.echo(bytes({LARGE} - 1))) == {LARGE} - 1
        print(threads() - began, kept())
    """) == "0 0\n"


@pytest.mark.parametrize("call", [f"echo(bytes({LARGE}))", f"make({LARGE})"], ids=["sent", "received"])
def test_from_the_first_large_message_on_memory_is_kept_and_given_back_while_idle(call):
    assert run(f"""
        for _ in range(20):
            echo.{call}
        full = eventually(kept, what="memory is kept")
        eventually(lambda: full - rss() > 40 * MEGABYTE, what="it is given back")
        print(threads() - began)
    """) == "1\n"


def test_whoever_has_set_the_allocator_is_left_alone():
    assert run(f"""
        for _ in range(20):
            echo.echo(bytes({LARGE}))
        eventually(lambda: threads() == began, what="the thread has seen that it is of no use")
        print(kept())
    """, MALLOC_TRIM_THRESHOLD_="131072") == "0\n"  # fmt: skip


def test_a_fork_begins_anew():
    assert run("""
        blocks.tend()
        child = os.fork()
        if child == 0:
            try:
                alone = threads()
                blocks.tend()
                eventually(lambda: threads() > alone, what="the child has a thread of its own")
            except BaseException:
                os._exit(1)
            os._exit(0)
        print(os.waitpid(child, 0)[1])
    """) == "0\n"


def test_where_no_thread_is_to_be_had_messages_come_all_the_same(monkeypatch):
    def refuse(run):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(blocks, "_is_tended", False)
    monkeypatch.setattr(blocks, "start_thread", refuse)

    blocks.tend()
