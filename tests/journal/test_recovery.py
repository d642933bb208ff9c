"""Journals that were killed, restored from a backup, torn or damaged. Each of these is noticed and reported."""

import shutil
import subprocess
import sys
import threading

import pytest

from zmqservices.exceptions import JournalError
from zmqservices.journal import LostRange, recovery
from zmqservices.journal.events import Reset

#: A program that appends as fast as it can, and prints the committed seqs.
APPENDER = """
import sys, threading
from zmqservices.journal import Group, Journal, NewEvent
journal = Journal.open(sys.argv[1], "orders", sync=sys.argv[2])
free = threading.Semaphore(200)
def done(seq):
    sys.stdout.write(f"{seq}\\n")
    sys.stdout.flush()
    free.release()
journal.ensure_group(Group("reports.handle", "#"), lambda cursor: None)
for n in range(1, 10**9):
    free.acquire()
    journal.append(NewEvent("order.created", b"%d" % n), done)
"""


# --- kill -9 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync, wanted", [("normal", 3000), ("normal", 20_000), ("full", 3000)])
def test_committed_events_survive_kill_9(open_journal, tmp_path, sync, wanted):
    process = subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(tmp_path), sync], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    told = [int(process.stdout.readline()) for _ in range(wanted)]
    process.kill()
    rest, _ = process.communicate()
    # The last line may be torn.
    told += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]

    journal = open_journal(folder=tmp_path)
    items = journal.items()

    assert told == list(range(1, len(told) + 1))
    assert [item.seq for item in items] == list(range(1, journal.last_seq + 1))
    assert all(item.body == b"%d" % item.seq for item in items)
    assert journal.last_seq >= len(told)
    assert journal.notices == []


# --- a copy from a backup --------------------------------------------------------------------------------------------------


@pytest.fixture
def backup(tmp_path, open_journal):
    """A journal that was closed with 5 events of which 2 were handled, a copy of it, and that it went on to 9 events."""

    def backup(*names):
        journal = open_journal()
        journal.ensure()
        journal.append_many(5)
        journal.acknowledge(1, 2)
        journal.close()
        folder = journal.path.parent
        copy = shutil.copytree(folder, tmp_path / "backup")
        journal = open_journal()
        journal.append_many(4)
        journal.acknowledge(3, 4, 5, 6)
        journal.close()
        for path in folder.iterdir():
            if not path.name.endswith(names):
                path.unlink()
        for path in copy.iterdir():
            if not path.name.endswith(names):
                shutil.copy(path, folder)
        return journal

    return backup


def test_a_journal_restored_from_a_backup_is_noticed_and_reported(backup, open_journal):
    before = backup(".lock")

    journal = open_journal()

    [reset] = journal.notices
    assert isinstance(reset, Reset) and reset.reason == "rewound" and reset.lost == 4
    assert "ends at event 5, but had 9" in reset.detail
    assert journal.id == before.id and journal.origin != before.origin


def test_its_groups_are_told_what_may_be_lost_and_no_seq_is_used_again(backup, open_journal, reopened):
    backup(".lock")
    journal = open_journal()

    assert journal.append() == 10

    items = journal.items()
    assert [item.seq for item in items] == [3, 4, 5, 9, 10]
    assert items[3] == LostRange(6, 9, 4, "missing")
    journal = reopened(journal)
    assert journal.notices == []
    assert journal.items() == items
    journal.acknowledge(3, 4, 5, 9)
    assert journal.stats_of().cursor == 9


def test_with_the_whole_folder_copied_back_subscribers_know_better(backup, open_journal):
    before = backup()
    journal = open_journal()
    journal.append_many(4)

    assert journal.notices == []
    assert not journal.knows(before.origin, 9)
    assert {item.origin for item in journal.items()}.isdisjoint({before.origin})


def test_a_journal_that_was_rewound_and_went_on_elsewhere_is_noticed(backup, open_journal, tmp_path):
    before = backup(".lock")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "backup" / before.path.name, elsewhere)
    journal = open_journal(folder=elsewhere)
    for _ in range(10):
        journal.append(body=b"other")
    journal.close()
    shutil.copy(elsewhere / before.path.name, before.path)

    [reset] = open_journal().notices

    assert reset.reason == "rewound" and "another event 9" in reset.detail


def test_a_journal_that_replaced_another_one_is_noticed(open_journal, tmp_path):
    journal = open_journal()
    journal.append_many(5)
    journal.close()
    other = open_journal(folder=tmp_path / "other")
    other.append()
    other.close()
    shutil.copy(other.path, journal.path)

    [reset] = open_journal().notices

    assert reset.reason == "replaced" and f"{journal.id}, had 5 events" in reset.detail


def test_a_journal_that_was_deleted_is_noticed(open_journal):
    journal = open_journal()
    journal.append_many(5)
    journal.close()
    journal.path.unlink()

    [reset] = open_journal().notices

    assert reset.reason == "replaced" and "is new" in reset.detail


# --- torn and damaged ------------------------------------------------------------------------------------------------------


def wal_of(journal):
    return journal.path.with_name(journal.path.name + "-wal")


def test_a_torn_tail_of_the_log_loses_the_last_commits_and_is_told(open_journal, tmp_path):
    journal = open_journal()
    journal.ensure()
    for _ in range(50):
        journal.append(body=b"x" * 3000)
    journal.ask("rewind", "reports.handle", to_seq=0)
    marked = threading.Event()
    journal.journal.acknowledge("reports.handle", 1)
    while b" 50 " not in (mark := journal.path.with_suffix(".lock").read_bytes()):
        marked.wait(0.01)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for path in journal.path.parent.iterdir():
        shutil.copy(path, crashed)
    assert mark
    torn = crashed / wal_of(journal).name
    with torn.open("r+b") as file:
        file.truncate(torn.stat().st_size * 2 // 3)

    journal = open_journal(folder=crashed)

    [reset] = journal.notices
    assert reset.reason == "rewound" and 0 < reset.lost < 40
    items = journal.items()
    last = 50 - reset.lost
    assert [item.seq for item in items[:-1]] == list(range(1, last + 1))
    assert items[-1] == LostRange(last + 1, 50, reset.lost, "missing")
    assert journal.append() == 51


def damaged(journal, *, at, size=4096):
    with journal.path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * size)


def filled(open_journal, n=400):
    journal = open_journal()
    journal.ensure()
    for i in range(n):
        journal.append(body=b"%d " % i + b"x" * 1000)
    journal.acknowledge(1, 2, 3)
    journal.close()
    return journal


def test_readable_parts_of_a_damaged_file_are_copied_and_the_rest_is_reported(open_journal, tmp_path):
    journal = filled(open_journal)
    damaged(journal, at=journal.path.stat().st_size // 2 // 4096 * 4096, size=3 * 4096)

    journal = open_journal()
    items = journal.items()

    gaps = [item for item in items if isinstance(item, LostRange)]
    events = [item for item in items if not isinstance(item, LostRange)]
    assert len(gaps) >= 1 and 1 <= sum(gap.events for gap in gaps) < 50
    assert len(events) + sum(gap.events for gap in gaps) == 397
    assert all(event.body.startswith(b"%d " % (event.seq - 1)) for event in events)
    assert journal.append() == 401


def test_a_file_that_is_no_longer_a_database_is_kept_aside(open_journal):
    journal = filled(open_journal, n=10)
    journal.path.write_bytes(b"not a database at all" * 1000)

    again = open_journal()

    [reset] = again.notices
    assert reset.reason == "damaged" and reset.lost is None
    assert again.id == journal.id
    assert again.path.with_name(again.path.name + ".damaged-1").read_bytes().startswith(b"not a database")
    assert again.append() == 11


def test_a_truncated_file_is_repaired(open_journal):
    journal = filled(open_journal)
    with journal.path.open("r+b") as file:
        file.truncate(journal.path.stat().st_size // 2 // 4096 * 4096)

    journal = open_journal()
    items = journal.items()

    [reset] = journal.notices
    assert reset.reason == "damaged"
    assert sum(1 if not isinstance(item, LostRange) else item.events for item in items) == 397
    assert 100 < sum(1 for item in items if not isinstance(item, LostRange)) < 300
    assert journal.append() == 401


def test_if_groups_cannot_be_read_every_group_gets_all_kept_events(open_journal, monkeypatch):
    journal = filled(open_journal)
    damaged(journal, at=journal.path.stat().st_size // 2 // 4096 * 4096, size=3 * 4096)
    monkeypatch.setitem(recovery._CHECKS, "groups", _refuse)
    journal = open_journal()
    assert journal.groups() == []

    assert journal.ensure() == 0

    assert len(journal.items()) > 300


def _refuse(row):
    raise ValueError("not a group")


def test_damage_that_is_found_while_running_is_repaired(open_journal, monkeypatch):
    monkeypatch.setattr("zmqservices.journal.writer.EVENTS_PER_COMMIT", 1)
    journal = open_journal()
    journal.ensure()
    # More than SQLite has in memory.
    journal.append_many(6000, body=b"x" * 1000)
    journal.close()
    size = journal.path.stat().st_size
    journal = open_journal()
    damaged(journal, at=size // 2 // 4096 * 4096, size=size // 4)

    with pytest.raises(JournalError, match="malformed"):
        journal.items()
    items = journal.items()

    assert [notice.reason for notice in journal.notices] == ["damaged"]
    assert sum(1 if not isinstance(item, LostRange) else item.events for item in items) == 6000
    assert journal.append() == 6001


def test_bytes_that_changed_are_noticed_when_they_are_read(open_journal):
    journal = filled(open_journal, n=100)
    content = journal.path.read_bytes()
    journal.path.write_bytes(content.replace(b"50 xxxx", b"50 xxyx"))

    journal = open_journal()

    assert [item for item in journal.items() if isinstance(item, LostRange)] == [LostRange(51, 51, 1, "damaged")]
    assert len(journal.items()) == 97
