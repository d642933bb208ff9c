"""Memory of large blocks is kept while it is of use, and given back when nothing is going on."""

import os
import platform
import subprocess
import sys

import pytest

from zmqservices.process import allocator

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

KEPT = """
import time
from zmqservices.process import allocator

def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

assert allocator.keep_large_blocks()
allocator.WORTH_A_TRIM = 0.001
trim = allocator.IdleTrim()
blocks = [bytearray(1024 * 1024) for _ in range(60)]
for block in blocks:
    block[:] = b"x" * len(block)
full = rss()
while trim.check():
    pass
del block, blocks
kept = rss()
end = time.monotonic() + 20
while not trim.check() and time.monotonic() < end:
    time.sleep(0.05)
print((full - kept) // 2**20, (kept - rss()) // 2**20)
"""


def run(code, **environ):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_blocks_are_kept_until_the_process_is_idle():
    kept, given_back = (int(word) for word in run(KEPT).split())

    assert kept < 10
    assert given_back > 40


NOTED = """
from zmqservices.process import allocator

def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

def kept_of(count):
    blocks = [bytearray(b"x" * 2**20) for _ in range(count)]
    full = rss()
    blocks.clear()
    return count - (full - rss()) // 2**20

print(kept_of(6), end=" ")
{first}
allocator.note_large_message()
print(kept_of(6), kept_of(60))
"""


def test_from_the_first_large_message_on_a_process_keeps_some():
    before, few, many = (int(word) for word in run(NOTED.format(first="")).split())

    assert before <= 2, "glibc by itself"
    assert few >= 5
    assert many <= 9


def test_a_message_changes_nothing_for_whoever_keeps_more():
    _, few, many = (int(word) for word in run(NOTED.format(first="allocator.keep_large_blocks()")).split())

    assert few >= 5
    assert many >= 50


def test_a_message_changes_nothing_for_whoever_has_set_the_allocator():
    _, few, many = (int(word) for word in run(NOTED.format(first=""), MALLOC_TRIM_THRESHOLD_="131072").split())

    assert few <= 1
    assert many <= 1


@pytest.mark.parametrize("name", allocator.VARIABLES)
def test_whoever_has_set_the_allocator_keeps_his_settings(name):
    code = "from zmqservices.process import allocator; print(allocator.keep_large_blocks())"

    assert run(code, **{name: "1000000" if name != "GLIBC_TUNABLES" else "glibc.malloc.perturb=0"}) == "False\n"


def test_an_idle_process_gives_back_once(monkeypatch):
    times = {"now": 0.0, "used": 0.0}
    monkeypatch.setattr(allocator.time, "monotonic", lambda: times["now"])
    monkeypatch.setattr(allocator.time, "process_time", lambda: times["used"])
    trim = allocator.IdleTrim()
    given_back = []
    trim._trim = given_back.append

    def after(seconds, used):
        times["now"] += seconds
        times["used"] += used
        return trim.check()

    assert not after(10.0, 0.05)  # Nothing was ever done.
    assert not after(10.0, 5.0)
    assert after(10.0, 0.05)
    assert not after(10.0, 0.05)
    assert given_back == [0]
    assert after(10.0, 0.3)  # A short burst that no look found busy.
    assert given_back == [0, 0]
