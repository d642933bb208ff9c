"""Dead letters: events that failed too often are kept with their error, requeued or dropped."""

import pytest

from zmqservices.exceptions import JournalError
from zmqservices.journal.events import DeadLettersDropped

ERROR = {"exc_type": "ValueError", "exc_path": "builtins.ValueError", "exc_args": ["no"], "value": "no", "traceback": "..."}


@pytest.fixture
def buried(journal):
    """A journal with events 1 to 5 of a group; 2 and 4 are dead letters."""
    journal.ensure()
    journal.append_many(5)
    bury(journal, 2, 4)
    return journal


def bury(journal, *seqs, group="reports.handle"):
    events = {item.seq: item for item in journal.items(group)}
    for seq in seqs:
        journal.ask("bury", group, events[seq], ERROR, 10)


def letters(journal, group="reports.handle", **options):
    return [letter.event.seq for _, letter in journal.ask("dead_letters", group, 100, **options)]


def test_a_dead_letter_keeps_the_event_and_the_error(buried):
    [(group, letter), _] = buried.ask("dead_letters", None, 10)

    assert group == "reports.handle"
    assert letter.event.seq == 2 and letter.event.body == b"body 1" and letter.event.origin == buried.origin
    assert letter.attempts == 10 and letter.error == ERROR and letter.buried_at > 1e9


def test_a_dead_letter_counts_as_handled_for_its_group(buried, reopened):
    assert buried.seqs() == [1, 3, 5]
    assert buried.stats_of().dead_letters == 2 and buried.stats_of().waiting == 3

    journal = reopened(buried)

    assert journal.seqs() == [1, 3, 5]
    assert letters(journal) == [2, 4]
    assert journal.stats_of().dead_letters == 2


def test_dead_letters_are_listed_page_by_page(buried):
    assert [letter.event.seq for _, letter in buried.ask("dead_letters", None, 1)] == [2]
    assert letters(buried, after=2) == [4]
    assert letters(buried, "another") == []


def test_a_requeued_dead_letter_is_delivered_again(buried):
    [event] = buried.ask("requeue", "reports.handle", [2, 3])

    assert event.seq == 2 and event.body == b"body 1"
    assert letters(buried) == [4]
    assert buried.stats_of().dead_letters == 1
    buried.acknowledge(2)
    assert [event.seq for event in buried.ask("requeued", "reports.handle")] == []


def test_all_dead_letters_can_be_requeued(buried):
    assert [event.seq for event in buried.ask("requeue", "reports.handle", None)] == [2, 4]
    assert letters(buried) == []


def test_a_requeued_and_unhandled_event_survives_a_restart(buried, reopened):
    buried.ask("requeue", "reports.handle", None)
    buried.acknowledge(2)

    journal = reopened(buried)

    assert [event.seq for event in journal.ask("requeued", "reports.handle")] == [4]
    journal.acknowledge(4)
    journal = reopened(journal)
    assert journal.ask("requeued", "reports.handle") == []
    assert journal.stats().bytes < 1000


def test_a_requeued_event_that_fails_again_is_a_dead_letter_again(buried, reopened):
    [event] = buried.ask("requeue", "reports.handle", [2])

    buried.ask("bury", "reports.handle", event, {"value": "again"}, 3)

    journal = reopened(buried)
    [(_, letter), _] = journal.ask("dead_letters", None, 10)
    assert letter.attempts == 3 and letter.error == {"value": "again"}
    assert journal.ask("requeued", "reports.handle") == []
    assert journal.stats_of().dead_letters == 2


def test_dead_letters_are_dropped_by_seq_or_all(buried):
    assert buried.ask("drop", "reports.handle", [2, 3]) == 1
    assert letters(buried) == [4]
    assert buried.ask("drop", "reports.handle", None) == 1
    assert letters(buried) == []
    assert buried.stats_of().dead_letters == 0


def test_many_dead_letters_are_requeued_and_dropped_at_once(journal):
    journal.ensure()
    journal.append_many(1200)
    bury(journal, *range(1, 1201))

    assert len(journal.ask("requeue", "reports.handle", range(1, 701))) == 700
    assert journal.ask("drop", "reports.handle", range(1, 1201)) == 500


def test_a_dead_letter_outlives_its_event(open_journal):
    journal = open_journal(max_bytes=6000, full_timeout=0.0)
    journal.ensure()
    journal.append(body=b"x" * 1000)
    bury(journal, 1)
    for _ in range(10):
        journal.acknowledge(journal.append(body=b"x" * 1000))

    assert journal.stats().first_seq > 1
    assert journal.ask("requeue", "reports.handle", None)[0].body == b"x" * 1000


def test_dead_letters_are_deleted_with_their_group(buried):
    before = buried.stats().bytes

    buried.ask("remove_group", "reports.handle")

    assert letters(buried, None) == []
    assert buried.stats().bytes < before - 300


def test_the_bytes_of_dead_letters_are_counted_correctly(buried, reopened):
    buried.ask("requeue", "reports.handle", [2])
    buried.ask("bury", "reports.handle", buried.ask("requeue", "reports.handle", [4])[0], {"value": "x" * 500}, 1)
    buried.acknowledge(2)
    counted = buried.settled()
    counted.close()
    bytes_before = counted.stats().bytes

    assert reopened(buried).stats().bytes == bytes_before
    assert bytes_before > 500


def test_dead_letters_take_at_most_half_of_the_bytes(open_journal, monkeypatch):
    monkeypatch.setattr("zmqservices.journal.writer.SWEEP_INTERVAL", 0.0)
    journal = open_journal(max_bytes=20_000, full_timeout=0.0)
    journal.ensure()
    for _ in range(30):
        journal.append(body=b"x" * 1000)
        bury(journal, journal.last_seq)
    journal.settled()

    assert 5 <= len(letters(journal)) <= 10 and letters(journal)[-1] == 30
    dropped = [notice for notice in journal.notices if isinstance(notice, DeadLettersDropped)]
    assert sum(notice.dead_letters for notice in dropped) == 30 - len(letters(journal))
    assert journal.stats_of().dead_letters == len(letters(journal))


@pytest.mark.parametrize("question", ["requeue", "drop"])
def test_an_unknown_group_is_an_error(journal, question):
    with pytest.raises(JournalError, match="no group 'nobody'"):
        journal.ask(question, "nobody", None)
