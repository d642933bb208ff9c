"""The pool of reused greenlets: order, bounds, fairness, and slots that are never lost."""

import contextvars
import gc
import sys
import weakref
from collections import Counter

import gevent
import pytest
from gevent.event import Event
from gevent.local import local
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.at_random import examples
from tests.hosting.stage import run_in_hub, until
from zmqservices.hosting import workers
from zmqservices.hosting.workers import PARKED_WORKERS_KEPT, WorkerPool

#: Coverage keeps a value for each greenlet, and a worker with such a value is not used again.
reuses_workers = pytest.mark.skipif(sys.gettrace() is not None, reason="workers are not used again while coverage traces them")


@pytest.fixture
def make_pool():
    pools = []

    def make(run_job, size=10, kept=PARKED_WORKERS_KEPT):
        pool = WorkerPool(lambda job, now: run_job(job), size)
        pool.kept = kept
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.kill()
        pool.release()
    gevent.sleep(0)


@reuses_workers
def test_a_batch_that_does_not_block_is_run_in_order_by_one_worker_before_flush_returns(make_pool):
    ran = []
    pool = make_pool(lambda job: ran.append((job, gevent.getcurrent())))

    def collect_then_run():
        for number in range(64):
            pool.put(number)
        queued = pool.queued
        pool.flush()
        return queued, len(ran)

    assert run_in_hub(collect_then_run) == (64, 64)
    assert [job for job, _ in ran] == list(range(64))
    assert len({worker for _, worker in ran}) == 1


@reuses_workers
def test_workers_are_reused(make_pool):
    used = []
    pool = make_pool(lambda job: used.append(gevent.getcurrent()))
    for number in range(3):
        pool.put(number)
        pool.waitall(30)

    assert len(used) == 3 and len(set(used)) == 1


def test_when_a_job_blocks_another_worker_is_entered_up_to_the_size(make_pool):
    may_end = Event()
    most = []

    def job(number):
        most.append(pool.running())
        may_end.wait(30)

    pool = make_pool(job, size=3)
    for number in range(5):
        pool.put(number)
    run_in_hub(pool.flush)

    assert (pool.running(), pool.free(), pool.queued) == (3, 0, 2)
    may_end.set()
    assert pool.waitall(30)
    assert max(most) == 3
    assert (pool.running(), pool.free(), pool.queued) == (0, 3, 0)


@pytest.mark.parametrize("where", ["main greenlet", "hub", "worker"])
def test_a_job_runs_even_without_a_flush(make_pool, where):
    ran = []

    def job(name):
        ran.append(name)
        if name == "outer":
            pool.put("inner")

    pool = make_pool(job, size=1)
    if where == "main greenlet":
        pool.put("inner")
    elif where == "hub":
        run_in_hub(lambda: pool.put("inner"))
    else:
        pool.put("outer")

    until(lambda: "inner" in ran)


def test_flush_from_another_greenlet_is_left_to_the_hub(make_pool):
    ran = []
    pool = make_pool(ran.append)
    pool.jobs.append("job")

    pool.flush()

    assert not ran
    until(lambda: ran)


def test_the_loop_gets_a_turn_after_a_number_of_jobs(make_pool, monkeypatch):
    monkeypatch.setattr(workers, "SECONDS_PER_TURN", 1000)
    ran = []
    seen = []
    pool = make_pool(ran.append)
    loop = gevent.get_hub().loop
    # Before and after the loop looks at its sockets.
    each_turn = [loop.prepare(), loop.check()]
    for watcher in each_turn:
        watcher.start(lambda: seen.append(len(ran)))
    try:
        until(lambda: seen)
        for number in range(3 * workers.JOBS_PER_TURN):
            pool.put(number)
        assert pool.waitall(30)
    finally:
        for watcher in each_turn:
            watcher.close()

    gaps = [later - earlier for earlier, later in zip(seen, [*seen[1:], len(ran)], strict=True)]
    assert ran == list(range(3 * workers.JOBS_PER_TURN))
    assert [gap for gap in gaps if gap] == [workers.JOBS_PER_TURN] * 3


def test_the_loop_gets_a_turn_after_some_time(make_pool, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(workers, "monotonic", lambda: clock[0])
    ran = []
    pool = make_pool(lambda job: (ran.append(job), clock.__setitem__(0, clock[0] + 0.004)) and None)

    def collect_then_run():
        for number in range(10):
            pool.put(number)
        pool.flush()
        return list(ran)

    assert run_in_hub(collect_then_run) == [0, 1, 2]
    until(lambda: ran == list(range(10)))


def test_a_flush_while_the_loop_has_its_turn_runs_nothing(make_pool):
    ran = []
    pool = make_pool(ran.append)

    def flood():
        for number in range(workers.JOBS_PER_TURN + 1):
            pool.put(number)
        pool.flush()
        pool.flush()
        return len(ran)

    assert run_in_hub(flood) == workers.JOBS_PER_TURN
    until(lambda: len(ran) == workers.JOBS_PER_TURN + 1)


def test_every_job_begins_with_no_context_variables(make_pool):
    variable = contextvars.ContextVar("variable", default="untouched")
    variable.set("of the test")
    seen = []

    def job(number):
        seen.append(variable.get())
        variable.set(number)
        gevent.sleep(0)
        seen.append(variable.get())

    pool = make_pool(job, size=1)
    for number in range(3):
        pool.put(number)
    pool.waitall(30)

    assert seen == ["untouched", 0, "untouched", 1, "untouched", 2]
    assert variable.get() == "of the test"


def test_every_job_begins_with_no_greenlet_locals(make_pool):
    mine = local()
    seen = []

    def job(number):
        seen.append((getattr(mine, "value", None), getattr(gevent.getcurrent(), "note", None)))
        if number % 2:
            mine.value = number
        else:
            gevent.getcurrent().note = number

    pool = make_pool(job, size=1)
    for number in range(4):
        pool.put(number)
    pool.waitall(30)

    assert seen == [(None, None)] * 4


def test_greenlet_keys_in_a_weak_mapping_are_removed_with_their_job(make_pool):
    kept = weakref.WeakKeyDictionary()
    seen = []

    def job(number):
        seen.append(kept.get(gevent.getcurrent()))
        kept[gevent.getcurrent()] = number

    pool = make_pool(job, size=1)
    pool.kept = 10
    for number in range(4):
        pool.put(number)
    pool.waitall(30)

    assert seen == [None] * 4
    until(lambda: not kept)


def test_a_job_that_raises_costs_no_slot_and_no_other_job(make_pool):
    ran = []

    def job(number):
        ran.append(number)
        if number % 2:
            raise gevent.GreenletExit

    pool = make_pool(job, size=2)
    for number in range(10):
        pool.put(number)

    assert pool.waitall(30)
    assert ran == list(range(10))
    assert pool.free() == 2


def test_a_worker_that_reports_itself_spent_is_not_used_again(make_pool):
    used = []

    def job(number):
        used.append(gevent.getcurrent())
        return True

    pool = make_pool(job, size=1)
    pool.put(1)
    pool.put(2)
    pool.waitall(30)

    assert len(set(used)) == 2


@pytest.mark.parametrize("blow", [gevent.GreenletExit(), gevent.Timeout(None), ValueError("stray")])
def test_a_parked_worker_that_is_killed_or_hit_by_a_stray_error_is_replaced(make_pool, blow):
    used = []
    pool = make_pool(lambda job: used.append(gevent.getcurrent()), size=1)
    pool.put(1)
    pool.waitall(30)
    gevent.sleep(0)

    run_in_hub(lambda: used[0].throw(blow))
    pool.put(2)

    assert pool.waitall(30)
    assert used[0].dead and used[1] is not used[0]


@reuses_workers
def test_a_stray_wake_up_of_a_parked_worker_does_nothing(make_pool):
    used = []
    pool = make_pool(lambda job: used.append(gevent.getcurrent()), size=1)
    pool.put(1)
    pool.waitall(30)
    gevent.sleep(0)

    run_in_hub(lambda: used[0].switch("stray"))
    pool.put(2)

    assert pool.waitall(30)
    assert used[1] is used[0] and pool.free() == 1


def test_a_worker_killed_from_outside_is_replaced(make_pool):
    used = []

    def job(number):
        used.append(gevent.getcurrent())
        if number == 1:
            gevent.sleep(1000)

    pool = make_pool(job, size=1)
    pool.put(1)
    pool.put(2)
    until(lambda: used)

    used[0].kill(timeout=30)

    assert pool.waitall(30)
    assert used[0].dead and len(used) == 2


@reuses_workers
def test_idle_workers_beyond_those_kept_end(make_pool):
    may_end = Event()
    used = []

    def job(number):
        used.append(gevent.getcurrent())
        may_end.wait(30)

    pool = make_pool(job, size=5, kept=2)
    for number in range(5):
        pool.put(number)
    until(lambda: len(used) == 5)
    may_end.set()
    pool.waitall(30)

    until(lambda: sum(worker.dead for worker in used) == 3)
    pool.release()
    until(lambda: all(worker.dead for worker in used))


def test_a_pool_that_was_released_is_garbage():
    pool = WorkerPool(lambda job, now: None, 2)
    pool.kept = 2
    pool.put(1)
    pool.waitall(30)
    pool.release()
    gevent.sleep(0)
    gone = weakref.ref(pool)
    del pool
    gc.collect()

    assert gone() is None


def test_dropped_jobs_are_not_run_and_not_counted(make_pool):
    ran = []
    pool = make_pool(ran.append)
    for number in range(10):
        pool.put(number)
    for number in (0, 3, 4, 5, 6, 7, 9):
        pool.drop(number)

    assert pool.queued == 3
    pool.waitall(30)
    assert ran == [1, 2, 8]


def test_waiting_for_all_can_be_given_up(make_pool):
    pool = make_pool(lambda job: gevent.sleep(1000))
    pool.put(1)

    assert pool.waitall(0.001) is False


def test_slots_are_given_in_the_order_of_requests(make_pool):
    began = []
    may_end = [Event() for _ in range(4)]

    def job(number):
        began.append(number)
        may_end[number].wait(30)

    pool = make_pool(job, size=1)

    def ask(number):
        pool.claim_slot()
        pool.put_claimed(number)

    asking = [gevent.spawn(ask, number) for number in range(4)]
    for number in range(4):
        until(lambda number=number: began == list(range(number + 1)))
        may_end[number].set()
    gevent.joinall(asking, timeout=30, raise_error=True)
    assert pool.waitall(30)


def test_a_slot_of_a_waiter_that_is_gone_goes_to_the_next(make_pool):
    may_end = Event()

    def job(name):
        may_end.wait(30)
        # It comes after the slot was promised and before it was taken.
        gone.kill(block=False)

    pool = make_pool(job, size=1)
    pool.put("first")
    gevent.sleep(0)
    gone, waiting = gevent.spawn(pool.claim_slot), gevent.spawn(pool.claim_slot)
    gevent.sleep(0)

    may_end.set()

    waiting.get(timeout=30)
    assert isinstance(gone.get(timeout=30), gevent.GreenletExit)
    pool.give_slot_back()
    assert pool.free() == 1


JOBS = st.lists(st.sampled_from(["run", "block", "raise", "spent", "kill", "local", "put more"]), max_size=40)


@settings(max_examples=examples(60))
@given(jobs=JOBS, size=st.integers(1, 4), kept=st.integers(0, 4))
def test_whatever_jobs_do_each_is_run_once_and_no_slot_is_lost(jobs, size, kept):
    mine = local()
    ran = Counter()
    most = [0]

    def run_job(job, now):
        ran[job] += 1
        most[0] = max(most[0], pool.running())
        number, kind = job
        if kind == "block":
            gevent.sleep(0)
        elif kind == "raise":
            raise gevent.GreenletExit
        elif kind == "spent":
            return True
        elif kind == "kill":
            gevent.getcurrent().kill(block=False)
            try:
                gevent.sleep(0.001)
            except gevent.GreenletExit:
                return True
        elif kind == "local":
            mine.value = 1
        elif kind == "put more":
            pool.put((number, "run"))
        return False

    pool = WorkerPool(run_job, size)
    pool.kept = kept
    expected = Counter()
    for number, kind in enumerate(jobs):
        pool.put((number, kind))
        expected[number, kind] += 1
        if kind == "put more":
            expected[number, "run"] += 1

    assert pool.waitall(30)
    assert ran == expected
    assert most[0] <= size
    assert (pool.free(), pool.queued, pool.running()) == (size, 0, 0)
    pool.release()
    gevent.sleep(0)


def test_the_backlog_counts_jobs_beyond_the_free_slots(make_pool):
    gate = Event()
    pool = make_pool(lambda job: gate.wait(), size=3)
    for number in range(5):
        pool.put(number)

    assert (pool.queued, pool.backlog()) == (5, 2)
    gevent.sleep(0)
    assert (pool.queued, pool.backlog()) == (2, 2)
    gate.set()
    pool.waitall(30)
    assert pool.backlog() == 0
