"""Only their user can read journals, and links in their folder are not followed."""

import os
import stat

import pytest

from zmqservices.cluster.settings import Settings, folder_of
from zmqservices.exceptions import JournalError
from zmqservices.journal import Journal


@pytest.fixture(autouse=True)
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_only_their_user_can_read_folders_and_files_of_journals(tmp_path):
    folder = tmp_path / "state" / "journals" / "default"

    journal = Journal.open(folder, "orders")

    files = sorted(folder.iterdir())
    assert [path.name for path in files] == ["orders.0.journal", "orders.0.journal-wal", "orders.0.lock"]
    assert {mode(path) for path in files} == {0o600}
    assert {mode(tmp_path / "state"), mode(folder.parent), mode(folder)} == {0o700}
    journal.close()


def test_a_journal_that_others_could_read_is_closed_to_them(tmp_path):
    Journal.open(tmp_path, "orders").close()
    for path in tmp_path.iterdir():
        path.chmod(0o644)

    journal = Journal.open(tmp_path, "orders")

    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}
    journal.close()


def test_an_existing_folder_keeps_its_permissions(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o750)

    Journal.open(folder, "orders").close()

    assert mode(folder) == 0o750


@pytest.mark.parametrize("name", ["orders.0.lock", "orders.0.journal"])
def test_a_symbolic_link_is_refused_and_what_it_leads_to_untouched(tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    folder = tmp_path / "journals"
    folder.mkdir()
    (folder / name).symlink_to(precious)

    with pytest.raises(JournalError, match=rf"{name}' is a symbolic link, which is not followed; remove it"):
        Journal.open(folder, "orders")

    assert precious.read_text() == "precious"


def test_a_linked_lock_hides_no_other_journal(tmp_path):
    for source in ("linked", "orders"):
        Journal.open(tmp_path, source).close()
    (tmp_path / "linked.0.lock").unlink()
    (tmp_path / "linked.0.lock").symlink_to(tmp_path / "orders.0.lock")

    assert [orphan.source for orphan in Journal.orphans(tmp_path)] == ["orders"]


@pytest.mark.parametrize("namespace", [".", "..", "...", "../..", "a/../..", "/etc", "a\\b", "\0", "%2E%2E", "default", "a.b"])
def test_a_namespace_is_one_step_down(tmp_path, namespace):
    events = Settings.read({"NAMESPACE": namespace, "JOURNAL_FOLDER": str(tmp_path)}).events

    assert os.path.dirname(os.path.realpath(events.folder)) == os.path.realpath(tmp_path)
    assert os.path.realpath(events.folder) == events.folder


def test_every_namespace_has_its_own_folder():
    names = [".", "..", "%2E", "%2E%2E", "a", "a.b", "A", "a/b", "a%2Fb"]

    assert len({folder_of(name) for name in names}) == len(names)
