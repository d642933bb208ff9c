"""What every kind of directory promises that holds locks, and what those say that hold none."""

import itertools
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing, contextmanager

import pytest

from discovery import DirectoryError
from discovery.client.locks import EngineLock, Held, lock_time
from tests.discovery.engine_servers import CONSULS
from tests.discovery.stage import House, eventually
from tests.ports import free_port

_numbers = itertools.count()


@pytest.fixture(params=["etcd", "zookeeper", *CONSULS])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def url(server):
    return f"{server.url}/locks/{next(_numbers)}"


@pytest.fixture
def house(url):
    with closing(House(url, ttl=1.0)) as house:
        yield house


def taken(lock):
    return eventually(lambda: lock.token)


def test_of_two_one_gets_it_and_the_other_when_it_is_free_with_a_higher_token(house):
    assert house.open(start=False).capabilities.locks
    first = house.open().lock("clean/up")
    token = taken(first)
    second = house.open().lock("clean/up")
    other = taken(house.open().lock("something else"))

    assert (first.token, second.token) == (token, None)
    first.release()
    first.release()

    assert first.token is None
    assert taken(second) > token
    assert other != token


def test_it_is_held_beyond_its_lease_and_free_after_its_holder_stops(house):
    # A lease that a busy machine renews in time.
    holder = house.open(ttl=3.0)
    first = holder.lock("a")
    token = taken(first)
    second = house.open(ttl=3.0).lock("a")
    end = time.monotonic() + 3.3
    while time.monotonic() < end:
        assert (first.token, second.token) == (token, None)
        time.sleep(0.02)

    holder.stop()

    assert first.token is None
    assert taken(second) > token


def test_namespaces_have_locks_of_their_own(house):
    red, blue = house.open(namespace="red").lock("a"), house.open(namespace="blue").lock("a")

    assert taken(red) and taken(blue)
    with pytest.raises(DirectoryError, match="locks are of one namespace"):
        house.open(namespace=None).lock("a")
    with pytest.raises(DirectoryError, match="''; a text of 1 to"):
        house.open().lock("")


@contextmanager
def holder_process(url):
    """A process that says each token once it has it, and None once it has it no more."""
    program = f"""
        import time
        from discovery import open_directory
        directory = open_directory({url!r}, ttl=1.0)
        directory.start()
        lock, said = directory.lock("a"), 0
        while True:
            if (token := lock.token) != said:
                print(token, time.monotonic(), flush=True)
                said = token
            time.sleep(0.005)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith("None")
            token = process.stdout.readline().split()[0]
            yield process, int(token)
        finally:
            process.kill()


def test_a_holder_that_is_killed_or_stands_still_loses_it_before_another_one_has_it(house, url):
    waiting = house.open()
    with holder_process(url) as (process, token):
        lock = waiting.lock("a")
        process.send_signal(signal.SIGSTOP)
        second = taken(lock)
        process.send_signal(signal.SIGCONT)

        assert process.stdout.readline().split()[0] == "None", "it knows at once"
        assert second > token
        lock.release()
        third = int(process.stdout.readline().split()[0])
        assert third > second

        lock = waiting.lock("a")
        process.kill()
        assert taken(lock) > third


def test_a_server_that_does_not_answer_costs_the_lock_before_the_lease_ends(house, server):
    lock = house.open().lock("a")
    taken(lock)

    server.freeze()
    try:
        eventually(lambda: lock.token is None)
    finally:
        server.thaw()

    taken(lock)


@pytest.mark.parametrize("url", ["local:FREE", "tcp://127.0.0.1:4190", "static:a=tcp://127.0.0.1:1"])
def test_a_directory_without_locks_says_which_has_them(url):
    url = url.replace("FREE", str(free_port()))
    with closing(House(url)) as house:
        directory = house.open(start=False)

        assert not directory.capabilities.locks
        with pytest.raises(DirectoryError, match="holds no locks, so 'a' is not locked; etcd:, zookeeper: or consul: alone does"):
            directory.lock("a")


def test_engines_that_are_merged_hold_no_locks():
    with closing(House("etcd://127.0.0.1:1,consul://127.0.0.1:1")) as house:
        assert not house.open(start=False).capabilities.locks


def test_a_lock_that_was_released_is_granted_no_more():
    released = []
    lock = EngineLock("default", "a", released.append)
    lock.grant(Held(5, lock_time() + 60))
    assert lock.token == 5

    lock.release()
    lock.grant(Held(5, lock_time() + 60))

    assert lock.token is None
    assert released == [lock]


def test_a_lock_of_which_nothing_is_heard_is_held_until_its_time():
    lock = EngineLock("default", "a", lambda _: None)

    lock.grant(Held(5, lock_time() - 0.001))

    assert lock.token is None
