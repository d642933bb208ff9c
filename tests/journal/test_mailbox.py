"""Requests that are posted to the journal's thread, and the event loop's waits for that thread."""

import pytest

from zmqservices.journal import mailbox
from zmqservices.utils.native_threads import start_thread

#: Seconds that nobody reaches unless something is wrong.
LONG = 20.0


class Thread:
    """Takes what is posted, and does each thing before it looks for more."""

    def __init__(self):
        self.mailbox = mailbox.Mailbox()
        self.done = []
        start_thread(self._run)

    def _run(self):
        while True:
            self.mailbox.wait(None)
            while self.mailbox.items:
                thing = self.mailbox.items.popleft()
                if thing is None:
                    return
                thing()
                self.done.append(thing)


@pytest.fixture
def thread():
    thread = Thread()
    yield thread
    thread.mailbox.put(None)


def test_giving_way_lasts_until_all_that_was_posted_is_done(thread):
    for n in range(200):
        things = [lambda: None for _ in range(n % 5)]
        for thing in things:
            thread.mailbox.put(thing)

        assert thread.mailbox.give_way(LONG)
        assert thread.done[len(thread.done) - len(things) :] == things


def test_giving_way_to_a_thread_with_nothing_to_do_costs_nothing(thread):
    thread.mailbox.put(lambda: None)
    thread.mailbox.give_way(LONG)

    assert thread.mailbox.give_way(0.0)


def test_nobody_gives_way_for_longer_than_he_would_nor_again_soon(thread):
    gate = mailbox.Flag()
    thread.mailbox.put(gate.wait)

    assert not thread.mailbox.give_way(0.001)
    # At once, although the thread is not through: LONG would be noticed.
    assert not thread.mailbox.give_way(LONG)
    gate.set()


def test_a_thread_that_is_through_too_late_ends_no_later_wait(thread, monkeypatch):
    monkeypatch.setattr(mailbox, "GIVES_NO_WAY", 0.0)
    for _ in range(50):
        gate = mailbox.Flag()
        thread.mailbox.put(gate.wait)
        assert not thread.mailbox.give_way(0.0001)
        gate.set()
        thread.mailbox.put(last := lambda: None)

        assert thread.mailbox.give_way(LONG)
        assert thread.done[-1] is last
