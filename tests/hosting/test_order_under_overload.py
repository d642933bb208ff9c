"""Which call runs next if more calls arrive than can be served."""

import gevent
import pytest

from tests.hosting.stage import run_in_hub
from zmqservices.hosting.deadlines import DeadlineScan
from zmqservices.hosting.workers import WorkerPool


class Waiting:
    """A call as the scan sees it."""

    def __init__(self, queued_at, deadline):
        self._queued_at = queued_at
        self.deadline = deadline
        self._is_cancelled = False


class Stand:
    """A pool without flushes, and a clock that the test sets."""

    def __init__(self):
        self.now = 0.0
        self.pool = WorkerPool(lambda job, now: None, 1)
        self.scan = DeadlineScan(self.pool, self.expire)
        self.scan.clock = lambda: self.now
        self.expired = []

    def expire(self, call):
        call._is_cancelled = True
        self.expired.append(call)
        self.pool.drop(call)

    def wait(self, queued_at, deadline):
        call = Waiting(queued_at, deadline)
        self.pool.jobs.append(call)
        return call

    def look(self, now):
        self.now = now
        self.scan.look()
        return self.pool.newest_first


@pytest.fixture
def stand():
    return Stand()


def test_the_newest_call_runs_first_once_the_oldest_has_waited_half_of_its_time(stand):
    stand.wait(0.0, 10.0)
    stand.wait(4.0, 14.0)

    assert not stand.look(4.9)
    assert stand.look(5.1)


def test_a_short_deadline_without_a_wait_is_no_sign_of_overload(stand):
    stand.wait(4.0, 4.2)
    stand.wait(4.0, 14.0)

    assert not stand.look(4.05)


def test_calls_run_in_order_again_when_the_long_waiting_ones_are_gone(stand):
    old = stand.wait(0.0, 10.0)
    stand.wait(4.0, 14.0)
    assert stand.look(5.1)

    assert stand.look(8.9)
    stand.look(10.1)
    assert stand.expired == [old]
    stand.pool.jobs.clear()
    stand.wait(10.0, 20.0)
    assert not stand.look(10.2)


def test_a_running_call_is_no_sign_of_overload(stand):
    stand.pool.threads[Waiting(0.0, 10.0)] = None
    stand.wait(8.0, 18.0)

    assert not stand.look(9.0)


def test_a_pool_can_run_the_newest_call_first():
    ran = []
    pool = WorkerPool(lambda job, now: ran.append(job), 1)

    def run(newest_first):
        pool.newest_first = newest_first
        for number in range(4):
            pool.put(number)
        pool.drop(1)
        pool.flush()

    run_in_hub(lambda: (run(False), run(True)))
    pool.release()
    gevent.sleep(0)

    assert ran == [0, 2, 3, 3, 2, 0]
