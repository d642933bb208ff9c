"""Which process owns which journal, and orphans."""

import os
import subprocess
import sys

import pytest

from zmqservices.exceptions import JournalError
from zmqservices.journal import Journal, Orphan
from zmqservices.journal.slots import Slot

#: Opens a journal, says so, and holds it until its input ends.
HOLDER = """
import sys
from zmqservices.journal import Journal
journal = Journal.open(sys.argv[1], sys.argv[2])
print(journal.slot, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Another process that holds a journal; returns (the process, its slot)."""
    processes = []

    def hold(folder, source="orders"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process, int(process.stdout.readline())

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def test_each_process_has_its_own_slot(hold, open_journal, tmp_path):
    assert [hold(tmp_path)[1], hold(tmp_path)[1]] == [0, 1]
    assert open_journal(folder=tmp_path).slot == 2


def test_two_journals_of_one_process_have_different_slots(open_journal):
    assert [open_journal().slot, open_journal().slot] == [0, 1]


def test_sources_have_separate_slots(open_journal):
    assert open_journal("orders").slot == open_journal("customers").slot == 0


def test_the_slot_of_a_process_that_was_killed_is_free(hold, open_journal, tmp_path):
    process, _ = hold(tmp_path)
    process.kill()
    process.wait()

    assert open_journal(folder=tmp_path).slot == 0


def test_journals_without_an_owner_are_orphans(hold, open_journal, tmp_path):
    journals = [open_journal(folder=tmp_path) for _ in range(3)]
    journals[0].append()
    other = open_journal("customers", folder=tmp_path)
    for journal in (journals[0], journals[2], other):
        journal.close()

    assert Journal.orphans(tmp_path, "orders") == [
        Orphan(journals[0].path, "orders", 0),
        Orphan(journals[2].path, "orders", 2),
    ]
    assert len(Journal.orphans(tmp_path)) == 3
    assert Journal.orphans(tmp_path / "nowhere") == []


def test_an_orphan_can_be_adopted_beside_ones_own(hold, open_journal, tmp_path):
    process, _ = hold(tmp_path)
    mine = open_journal(folder=tmp_path)
    process.kill()
    process.wait()
    [orphan] = Journal.orphans(tmp_path, "orders")

    adopted = open_journal(folder=tmp_path, slot=orphan.slot)

    assert adopted.path == orphan.path != mine.path
    assert Journal.orphans(tmp_path, "orders") == []


def test_a_journal_that_has_an_owner_cannot_be_adopted(open_journal, journal):
    with pytest.raises(JournalError, match="journal 0 of 'orders' .* is in use by another process"):
        open_journal(slot=0)


@pytest.mark.parametrize("source", ["a.b", "a/b", "ä ö", "a.0", "..", "%41"])
def test_a_source_may_have_any_name(open_journal, tmp_path, source):
    journal = open_journal(source)
    path = journal.path
    journal.close()

    assert path.parent == tmp_path / "journals"
    assert Journal.orphans(path.parent, source) == [Orphan(path, source, 0)]


def test_an_empty_orphan_is_removed(open_journal, tmp_path, monkeypatch):
    monkeypatch.setattr("zmqservices.journal.writer.SWEEP_INTERVAL", 0.0)
    journal = open_journal(retention=0.0)
    journal.ensure()
    journal.acknowledge(journal.append())
    journal.settled()

    assert journal.ask("discard") is True

    assert list(journal.path.parent.iterdir()) == []
    assert open_journal().append() == 1


def test_an_orphan_with_waiting_events_is_not_removed(open_journal, reopened):
    journal = open_journal()
    journal.ensure()
    journal.append()

    assert journal.ask("discard") is False

    assert open_journal().seqs() == [1]


def test_whoever_locks_a_slot_that_was_just_discarded_locks_the_new_one(tmp_path):
    old, new = Slot(tmp_path, "orders", 0), Slot(tmp_path, "orders", 0)
    assert old.claim()
    opened, discards = os.open, [old]

    def open_then_discarded(path, *args):
        fd = opened(path, *args)
        for slot in discards:
            slot.discard()
            slot.release()
        discards.clear()
        return fd

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.open", open_then_discarded)
        assert new.claim()

    assert not Slot(tmp_path, "orders", 0).claim()
    new.release()


def test_other_files_in_the_folder_are_left_alone(open_journal, tmp_path):
    (tmp_path / "notes.journal").write_text("mine")
    (tmp_path / "x.1.journal.damaged-1").write_text("mine")

    assert Journal.orphans(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(open_journal, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(JournalError, match="no journal of 'orders' can be kept in .*file/journals"):
        open_journal(folder=tmp_path / "file" / "journals")
