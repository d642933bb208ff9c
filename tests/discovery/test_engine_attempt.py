"""What becomes of a session with an engine that is too busy to answer: sessions without a server."""

import queue
from contextlib import contextmanager

import pytest

from discovery.client.connection import WAITING
from discovery.client.engine_attempt import EngineAttempt, EngineThreads
from discovery.client.engine_connection import EngineConnection
from discovery.client.engine_session import Contents
from discovery.client.locks import EngineLocks
from discovery.client.patience import Patience, goes_on
from discovery.exceptions import EngineError, EngineOverdueError
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

    def close(self):
        self._closed.set()


@contextmanager
def attempted(*ends):
    """The news of an attempt with such a session, as they come."""
    news, threads = queue.SimpleQueue(), EngineThreads()
    attempt = EngineAttempt("etcd://h", Session(*ends), None, lambda _, new: news.put(new), threads, EngineLocks(1.0))
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


class Listener:
    interest = None

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
