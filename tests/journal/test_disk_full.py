"""A journal on a full disk: a small tmpfs. If tmpfs cannot be mounted, the tests are skipped; in CI they fail."""

import os
import shutil
import subprocess

import pytest

from zmqservices.exceptions import JournalError, JournalFull
from zmqservices.journal import LostRange, NewEvent

pytestmark = pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount here")
BODY = b"x" * 1000


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        text = f"a small disk cannot be mounted here: {mounted.stderr.strip()}"
        pytest.fail(text) if os.environ.get("CI") == "true" else pytest.skip(text)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def on_disk(disk, open_journal):
    """A journal on the small disk, closed before the disk goes."""
    journals = []

    def on_disk(**options):
        journals.append(open_journal(folder=disk, **options))
        return journals[-1]

    yield on_disk
    for journal in journals:
        journal.close()


def fill(disk):
    """Takes what room there is. The file that has it."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    return path


def append_until_full(journal, most=5000):
    kept = 0
    with pytest.raises(JournalFull, match="the disk of journal .* is full; make room there"):
        for _ in range(most):
            journal.append(body=BODY)
            kept += 1
    return kept


def test_a_full_disk_is_an_error_that_says_so_and_committed_events_stay(on_disk):
    journal = on_disk()
    journal.ensure()

    kept = append_until_full(journal)

    assert kept > 100
    assert journal.seqs() == list(range(1, kept + 1))
    assert "is full" in journal.stats().trouble


def test_once_there_is_room_the_journal_goes_on(on_disk, disk):
    journal = on_disk()
    journal.ensure()
    filler = fill(disk)
    append_until_full(journal)
    last = journal.last_seq

    filler.unlink()

    assert journal.append(body=BODY) == last + 1
    assert journal.stats().trouble is None
    assert journal.seqs() == list(range(1, last + 2))


def test_every_append_of_a_failed_commit_gets_the_error(on_disk, disk):
    journal = on_disk()
    journal.ensure()
    fill(disk)
    answers = []
    for _ in range(3000):
        journal.journal.append(NewEvent("a", BODY), answers.append)
    journal.settled()

    assert len(answers) == 3000
    kept = [answer for answer in answers if isinstance(answer, int)]
    assert all(isinstance(answer, JournalFull) for answer in answers if not isinstance(answer, int))
    assert len(kept) < 3000
    assert journal.seqs() == kept


def test_a_journal_from_a_full_disk_is_whole_after_a_restart(on_disk, disk):
    journal = on_disk()
    journal.ensure()
    kept = append_until_full(journal)
    journal.acknowledge(1, 2, 3)
    journal.close()

    journal = on_disk()

    assert journal.last_seq == kept
    items = journal.items()
    assert not any(isinstance(item, LostRange) for item in items)
    # The acknowledgements may not have had room: duplicates, never a loss.
    assert {item.seq for item in items} >= set(range(4, kept + 1))


def test_a_journal_that_finds_no_room_says_so(on_disk, disk):
    fill(disk)

    with pytest.raises(JournalError, match="full|space"):
        on_disk()


def test_acknowledgements_without_room_are_written_later(on_disk, disk):
    journal = on_disk()
    journal.ensure()
    journal.append_many(50)
    filler = fill(disk)
    append_until_full(journal)
    kept = journal.last_seq
    journal.acknowledge(*range(1, kept + 1))
    journal.settled()

    filler.unlink()
    journal.close()

    assert kept > 0 and on_disk().seqs() == []
