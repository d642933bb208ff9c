"""Fixtures and helpers of the journal's tests: journals in tmp_path, and requests that wait for their answer."""

import threading

import pytest

from zmqservices.journal import Group, Journal, NewEvent

#: Seconds after which a journal that does not answer has failed the test.
PATIENCE = 30.0


class Asked:
    """A journal whose requests wait for the answer, and raise it if it is an error."""

    def __init__(self, journal, notices):
        self.journal = journal
        self.notices = notices

    def __getattr__(self, name):
        return getattr(self.journal, name)

    def ask(self, name, *args, **kwargs):
        answers, answered = [], threading.Event()

        def done(result):
            answers.append(result)
            answered.set()

        getattr(self.journal, name)(*args, done=done, **kwargs)
        assert answered.wait(PATIENCE), f"{name} was not answered"
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    def append(self, event_type="order.created", body=b"body", headers=None, key=None):
        return self.ask("append", NewEvent(event_type, body, headers, key))

    def append_many(self, n, event_type="order.created", body=b"body"):
        """All posted before the first is waited for. The seqs."""
        answers, answered = [], threading.Event()

        def done(result):
            answers.append(result)
            if len(answers) == n:
                answered.set()

        for i in range(n):
            self.journal.append(NewEvent(event_type, body + b" %d" % i), done)
        assert answered.wait(PATIENCE)
        return answers

    def ensure(self, name="reports.handle", pattern="#", **options):
        return self.ask("ensure_group", Group(name, pattern, **options))

    def fetch(self, group="reports.handle", after=0, limit=1000, **options):
        return self.ask("fetch", group, after, limit, **options)

    def items(self, group="reports.handle", after=0):
        """All pages."""
        found = []
        while True:
            page = self.fetch(group, after)
            found += page.items
            if page.is_last:
                return found
            after = page.to_seq

    def seqs(self, group="reports.handle", after=0):
        return [item.seq for item in self.items(group, after)]

    def acknowledge(self, *seqs, group="reports.handle"):
        for seq in seqs:
            self.journal.acknowledge(group, seq)

    def settled(self):
        """Waits until everything posted so far was looked at, and what follows from it was done."""
        for _ in range(2):
            self.ask("remove_group", "nobody")
        return self

    def stats_of(self, group="reports.handle"):
        self.settled()
        return self.journal.stats().groups[group]


@pytest.fixture
def open_journal(tmp_path):
    opened = []

    def open_journal(source="orders", folder=tmp_path / "journals", **options):
        notices = []
        journal = Journal.open(folder, source, on_notice=notices.append, **options)
        opened.append(journal)
        return Asked(journal, notices)

    yield open_journal
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal):
    return open_journal()


@pytest.fixture
def reopened(open_journal):
    """Closes a journal and opens it again."""

    def reopened(asked, **options):
        asked.close()
        return open_journal(**options)

    return reopened
