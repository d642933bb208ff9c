"""What becomes of a session with an engine that is too busy to answer: sessions without a server."""

import queue
from contextlib import contextmanager

import pytest

from discovery.client.connection import FIRST_PAUSE, WAITING
from discovery.client.engine_attempt import EngineAttempt, EngineThreads
from discovery.client.engine_connection import EngineConnection
from discovery.client.engine_session import Contents
from discovery.client.locks import EngineLocks
from discovery.client.patience import Patience, goes_on
from discovery.exceptions import EngineError, EngineOverdueError, EngineRefusal
from discovery.native import NativeEvent
from tests.discovery.stage import AT_LAST


class Session:
    """A session whose renewals end as `ends` says: with the instances that are lost, or an error."""

    def __init__(self, *ends):
        self._ends = list(ends)
        self._closed = NativeEvent()

    def open(self, interest):
        return Contents("cluster", [], [])

    def watch(self):
        self._closed.wait(blocking=True)
        yield from ()

    def keep(self):
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def keep_every(self):
        return 0.0 if self._ends else 60.0

    def goes_on(self, overdue):
        return goes_on(overdue, 0.0, 1)

    def take_lock(self, lock, seconds):
        return None

    def release_lock(self, lock):
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end

    def close(self):
        self._closed.set()


@contextmanager
def attempted(*ends, locks=None):
    """The news of an attempt with such a session, as they come."""
    news, threads = queue.SimpleQueue(), EngineThreads()
    locks = locks or EngineLocks(1.0)
    attempt = EngineAttempt("etcd://h", Session(*ends), None, lambda _, new: news.put(new), threads, locks)
    attempt.start()
    try:
        assert isinstance(news.get(timeout=AT_LAST), Contents)
        yield lambda: news.get(timeout=AT_LAST)
    finally:
        attempt.end()
        threads.join(AT_LAST)


LATE = EngineOverdueError("h did not answer within 3 s")


def test_one_overdue_renewal_does_not_end_a_session():
    with attempted([], LATE, ["lost"]) as new:
        assert new() == []
        assert [message.instances for message in new()] == [["lost"]]


def test_overdue_renewals_in_a_row_end_a_session():
    with attempted(LATE, LATE) as new:
        assert new() is LATE


def test_any_other_error_ends_a_session():
    error = EngineError("h answered: no")
    with attempted(error) as new:
        assert new() is error


@pytest.mark.parametrize(("answer", "remain"), [(EngineError("h is gone"), 2), (EngineRefusal("h forbids it"), 0), (None, 0)])
def test_a_lock_whose_release_is_cut_off_is_released_by_the_next_session(answer, remain):
    locks = EngineLocks(1.0)
    for name in ("a", "b"):
        locks.new("default", name).release()

    with attempted(answer, None, [], locks=locks) as new:
        new()

    assert len(locks.released()) == remain


class Listener:
    interest = None

    def on_up(self, connection, parts, now):
        pass

    def on_down(self, connection, now):
        pass


@pytest.mark.parametrize(("error", "least"), [(LATE, 3.0), (EngineError("h cannot be reached"), 0.0)])
def test_after_an_overdue_answer_a_client_pauses_for_a_part_of_its_patience(error, least, monkeypatch):
    patience = Patience(3.0)
    patience.was_overdue()
    monkeypatch.setattr(patience, "pause", lambda: 3.0)
    connection = EngineConnection("etcd://h", None, Listener(), 0.0, None, EngineThreads(), EngineLocks(1.0), None, patience)

    connection._take(error, 100.0)

    assert connection.state == WAITING
    assert connection.retry_at == 100.0 + least


def test_the_pauses_grow_while_sessions_fail_soon_after_they_have_come_up():
    connection = EngineConnection("etcd://h", None, Listener(), 5.0, None, EngineThreads(), EngineLocks(1.0), None, Patience(3.0))

    def pause_after_session(seconds):
        connection._take(Contents("cluster", [], []), 100.0)
        connection._take(EngineError("h answered: mvcc: database space exceeded"), 100.0 + seconds)
        return connection.retry_at - 100.0 - seconds

    pauses = [pause_after_session(0.1) for _ in range(7)]
    assert pauses[0] <= 0.6 < 0.8 <= min(pauses[3:]) and max(pauses) <= 5.0 + FIRST_PAUSE
    assert pause_after_session(60.0) <= FIRST_PAUSE
