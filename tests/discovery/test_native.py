"""Threads and waiting, with and without a gevent hub on the thread."""

import subprocess
import sys
import threading
import time

import pytest

from discovery.native import NativeEvent, NativeThread, Wakeup
from tests.discovery.stage import AT_LAST


def in_new_python(code, *, timeout=30):
    """Run code in a new interpreter. Return its output. If it fails, raise AssertionError with its stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_event_wakes_its_waiters():
    event = NativeEvent()
    thread = NativeThread(event.set, "setter")

    thread.start()

    assert event.wait(AT_LAST)
    assert thread.join(AT_LAST)


def test_a_wait_for_an_event_that_never_comes_ends_after_its_timeout():
    event = NativeEvent()
    begin = time.monotonic()

    assert not event.wait(0.02)
    assert 0.015 < time.monotonic() - begin < AT_LAST
    assert event._waiters == []


def test_many_may_wait_for_one_event():
    event = NativeEvent()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(event.wait(AT_LAST))) for _ in range(5)]
    for thread in threads:
        thread.start()

    event.set()

    for thread in threads:
        thread.join(AT_LAST)
    assert answers == [True] * 5


def test_a_thread_that_fails_is_reported_and_ends(caplog):
    def fail():
        raise RuntimeError("on purpose")

    thread = NativeThread(fail, "failing")
    thread.start()

    assert thread.join(AT_LAST)
    assert "thread failing failed" in caplog.text


def test_a_wakeup_can_be_used_any_number_of_times_and_after_its_end():
    wakeup = Wakeup()

    for _ in range(100_000):
        wakeup.wake()
    wakeup.clear()
    wakeup.close()
    wakeup.close()
    wakeup.wake()


def test_waiting_on_a_thread_with_a_hub_lets_the_hub_run():
    gevent = pytest.importorskip("gevent")
    event, ran = NativeEvent(), []

    def on_a_hub():
        def ticker():
            for _ in range(3):
                ran.append("tick")
                gevent.sleep(0)
            NativeThread(event.set, "setter").start()

        gevent.spawn(ticker)
        ran.append(event.wait(AT_LAST))
        gevent.get_hub().destroy()

    thread = threading.Thread(target=on_a_hub)
    thread.start()
    thread.join(AT_LAST)

    assert ran == ["tick", "tick", "tick", True]


def test_importing_the_package_imports_no_gevent_and_opens_no_socket():
    assert in_new_python("import sys, discovery; print('gevent' in sys.modules, 'zmq' in sys.modules)") == [
        "False",
        "False",
    ]


PATCHED = """
{patch}
import time, gevent, discovery
from discovery import Record
from discovery.server.registry_server import RegistryServer
server = RegistryServer("tcp://127.0.0.1:0"); server.start(); server.wait_bound(10)
here, there = discovery.open_directory(server.url), discovery.open_directory(server.url)
longest, last = 0.0, time.perf_counter()
def beat():
    global longest, last
    while True:
        now = time.perf_counter(); longest = max(longest, now - last); last = now
        gevent.sleep(0.001)
heart = gevent.spawn(beat)
gevent.sleep(0.01)
here.start(); there.start()
here.announce(Record("maths", "one"))
print(here.flush(10), there.wait_ready(10))
seen = []
there.subscribe(lambda view: seen.append(set(view.records)))
while {{"one"}} not in seen: gevent.sleep(0.001)
before = longest
begin = time.monotonic()
while time.monotonic() - begin < {busy}: pass
longest = 0.0; last = time.perf_counter()
print(sorted(there.view().records), there.view().registries[0]["state"])
here.withdraw("one"); here.flush(10)
here.stop(); there.stop(); server.stop()
heart.kill()
print(max(before, longest) < 0.3)
"""


@pytest.mark.parametrize(
    "patch",
    [
        "",
        "import gevent.monkey; gevent.monkey.patch_all()",
        "import discovery, gevent.monkey; gevent.monkey.patch_all()",
    ],
)
def test_a_directory_works_under_gevent_and_never_blocks_its_hub(patch):
    assert in_new_python(PATCHED.format(patch=patch, busy=0.1)) == ["True", "True", "['one']", "up", "True"]


def test_a_lease_lives_on_while_the_hub_is_busy():
    code = PATCHED.format(patch="import gevent.monkey; gevent.monkey.patch_all()", busy=2.0)
    code = code.replace('Record("maths", "one")', 'Record("maths", "one", ttl=0.6)')

    assert in_new_python(code)[2:4] == ["['one']", "up"]


FORK = """
import os, discovery, warnings
from discovery.server.registry_server import RegistryServer
server = RegistryServer("tcp://127.0.0.1:0"); server.start(); server.wait_bound(10)
parent = discovery.open_directory(server.url); parent.start(); parent.announce(discovery.Record("maths", "one"))
assert parent.flush(10)
warnings.simplefilter("ignore")
pid = os.fork()
if pid == 0:
    for use in (parent.view, parent.start, lambda: parent.withdraw("one"), lambda: parent.flush(1)):
        try:
            use()
        except discovery.DirectoryForkedError as exc:
            print("refused", flush=True)
    child = discovery.open_directory(server.url); child.start()
    print(child.wait_ready(10), sorted(child.view().records), flush=True)
    child.stop()
    parent.stop()
    os._exit(0)
_, status = os.waitpid(pid, 0)
print(status, sorted(parent.view().records), parent.flush(10))
"""


def test_a_directory_carried_over_a_fork_is_refused_and_a_new_one_works():
    words = in_new_python(FORK)

    assert words == ["refused"] * 4 + ["True", "['one']", "0", "['one']", "True"]


LEAVE = """
import discovery
directory = discovery.open_directory({url!r})
directory.start()
directory.announce(discovery.Record("maths", "one"))
print(directory.flush(10))
"""


def test_a_process_that_ends_withdraws_what_it_announced():
    from tests.discovery.stage import House, Watch, knows, registries

    with registries() as (server,):
        house = House(server.url)
        directory = house.open()
        seen = Watch(directory)
        assert directory.wait_ready(30)

        assert in_new_python(LEAVE.format(url=server.url)) == ["True"]

        seen.wait(knows("one"))
        seen.wait_now(knows(), timeout=5.0)
        house.close()


def test_a_process_ends_at_once_even_without_a_registry():
    begin = time.monotonic()

    assert in_new_python(LEAVE.format(url="tcp://127.0.0.1:1").replace("flush(10)", "flush(0.01)")) == [
        "False"
    ]
    assert time.monotonic() - begin < 10.0
