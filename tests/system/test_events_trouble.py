"""Events in trouble: a cut cable, a full disk, a group that never returns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

import discovery
from tests.system.clusters import QUICK
from tests.system.hosts import Hosts, run, why_not
from tests.system.processes import eventually
from tests.system.remote import Remote
from tests.system.test_events_processes import IN_HAND, MANY, publish

PORT = 4190
GROUP = "mails.send:order.paid"

#: More events than a small journal holds.
LOTS = 5_000


def may_not(reason):
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must test this: {reason}")
    if reason:
        pytest.skip(reason)


# --- the cable ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hosts():
    may_not(why_not())
    with Hosts(2) as two:
        yield two


def test_a_cable_that_is_cut_mid_stream_loses_nothing(stage, hosts, tallies, tmp_path):
    here, there = hosts
    url = f"tcp://{here.address}:{PORT}"
    serve = [sys.executable, "-m", "discovery", "serve", "--bind", url, "--ttl", "2"]
    stage.start("registry", [*here.prefix, *serve]).has_said("serving at")
    config = {**QUICK, "TALLY": str(tallies.folder), "JOURNAL_FOLDER": str(tmp_path / "journals"), "TEST_PAUSE": 0.001}

    def start(host, name):
        definitions = [part for key, value in config.items() for part in ("-d", f"{key}={value}")]
        command = [*host.prefix, sys.executable, "-m", "zmqservices", "run", f"tests.system.services.{name}", *definitions]
        process = stage.start(name, command, {"ZMQSERVICES_DIRECTORY": url})
        process.has_said("Services started")
        return process

    start(here, "orders")
    start(there, "mails")
    client = Remote.start(stage, {"DIRECTORY": url, **QUICK}, here.prefix)
    client.begin("orders.publish", 0, MANY, timeout=60)
    for part in (1, 2):
        tallies.wait_for("handled", part * MANY // 5)
        there.unplug()
        # Heartbeats of half a second: both sides have given the link up when this is over.
        handled = len(tallies.numbers("handled"))
        eventually(lambda before=handled: _stands_still(tallies, before), what="nothing arrives any more")
        there.plug()
    assert "value" in client.end(60)

    tallies.wait_until_handled(MANY, timeout=40)
    # The same member is there again: what it has in hand it does not take twice, nor what it answered into the void.
    assert len(tallies.duplicates()) <= 2 * IN_HAND


_last: dict[str, tuple[int, int]] = {}


def _stands_still(tallies, before, looks=100):
    """Whether the count has not changed in `looks` looks."""
    count = len(tallies.numbers("handled"))
    known, seen = _last.get(str(tallies.folder), (-1, 0))
    _last[str(tallies.folder)] = (count, seen + 1 if count == known else 0)
    return seen >= looks


# --- the disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        run("mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder))
    except (OSError, subprocess.CalledProcessError) as exc:
        may_not(f"a small disk cannot be made: {exc}")
    yield folder
    run("umount", "-l", str(folder))


def test_a_full_disk_fails_dispatches_with_a_clear_error_and_calls_go_on(event_cluster, tallies, small_disk):
    cluster = event_cluster
    journals = small_disk / "journals"
    member = cluster.run_one("mails")
    publisher = cluster.run_one("orders", JOURNAL_FOLDER=str(journals), JOURNAL_FULL_TIMEOUT=0.2)
    filler = small_disk / "filler"

    with cluster.client(timeout=30) as remote:
        remote.orders.publish(0, MANY // 2)
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while file.write(bytes(4096)):
                pass
        errors = []
        for _ in range(40):
            try:
                remote.orders.publish_one("other", bytes(100_000))
            except Exception as exc:
                errors.append(str(exc))
                break
        assert errors and "Journal" in errors[0], errors
        assert remote.orders.whoami() == publisher.pid
        assert remote.mails.whoami() == member.pid

        filler.unlink()
        eventually(lambda: _works(remote), what="there is room again")
        remote.orders.publish(MANY // 2, MANY // 2)

    tallies.wait_until_handled(MANY)
    assert not tallies.duplicates()


def _works(remote):
    try:
        remote.orders.publish_one("other", 1)
    except Exception:
        return False
    return True


# --- a group that never returns ------------------------------------------------------------------------------------------


def test_a_group_that_never_returns_is_bounded_shown_and_removable(event_cluster, tallies):
    cluster = event_cluster
    bound = 400_000
    publisher = cluster.run_one("orders", JOURNAL_MAX_BYTES=bound, JOURNAL_WHEN_FULL="drop-oldest")
    gone = cluster.run_one("mails")
    gone.terminate()
    gone.wait()

    with cluster.client(timeout=60) as remote:
        remote.orders.publish(0, LOTS)
        stats = remote["events:orders"].stats()
    [journal] = stats["journals"]
    [group] = journal["groups"]
    assert journal["bytes"] <= bound
    assert group["group"] == GROUP and group["members"] == []
    assert 0 < group["waiting"] < LOTS
    assert group["lost"] + group["waiting"] == LOTS
    # It is told, not hidden.
    publisher.has_said("Dropped")

    listed = cluster.command("events", "ls", "orders", "--json")
    assert listed.wait() == 0
    [shown] = json.loads(listed.output())
    assert shown["journals"][0]["groups"][0]["group"] == GROUP
    forgotten = cluster.command("events", "forget", "orders", GROUP)
    assert forgotten.wait() == 0
    listed = cluster.command("events", "ls", "orders", "--json")
    assert listed.wait() == 0
    [shown] = json.loads(listed.output())
    assert shown["journals"][0]["groups"] == []


def test_a_group_that_returns_after_a_gap_is_told_of_it(event_cluster, tallies):
    cluster = event_cluster
    cluster.run_one("orders", JOURNAL_MAX_BYTES=400_000, JOURNAL_WHEN_FULL="drop-oldest")
    gone = cluster.run_one("mails")
    gone.terminate()
    gone.wait()
    with cluster.client(timeout=60) as remote:
        remote.orders.publish(0, LOTS)
        [group] = remote["events:orders"].stats()["journals"][0]["groups"]

    back = cluster.run_one("mails")

    back.has_said("are lost for mails.send:order.paid")
    # All that was kept, and that is the end of it.
    tallies.wait_for("handled", group["waiting"])
    assert sorted(tallies.numbers("handled")) == list(range(LOTS - group["waiting"], LOTS))


# --- a journal from a backup ---------------------------------------------------------------------------------------------


def test_a_journal_that_was_copied_back_from_a_backup_is_told_and_goes_on(event_cluster, tallies, tmp_path):
    cluster = event_cluster
    journals, backup = tmp_path / "journals", tmp_path / "backup"
    _, publisher = cluster.run_all("mails", "orders")
    publish(cluster)
    tallies.wait_until_handled(MANY)
    publisher.terminate()
    assert publisher.wait() == 0
    shutil.copytree(journals, backup)
    publisher = cluster.run_one("orders")
    publish(cluster, first=MANY)
    tallies.wait_until_handled(2 * MANY)
    # How far it went is noted beside the journal a moment after the commit.
    (lock,) = journals.rglob("*.lock")
    eventually(lambda: b" %d " % (2 * MANY) in lock.read_bytes(), what="the mark is written")
    publisher.kill()
    publisher.wait()

    # The database alone, as a backup of it has it; what stands beside it on this disk tells more.
    for saved in backup.rglob("*.journal"):
        place = journals / saved.relative_to(backup)
        for old in place.parent.glob(f"{place.name}-*"):
            old.unlink()
        shutil.copy(saved, place)
    publisher = cluster.run_one("orders")
    publisher.has_said("rewound")
    with cluster.client(timeout=60, DIRECTORY=cluster.only("orders", publisher)) as remote:
        remote.orders.publish(2 * MANY, MANY)

    # Numbers of the journal are used again, and no event is taken for another one.
    tallies.wait_until_handled(3 * MANY)


# --- a torn journal --------------------------------------------------------------------------------------------------------


def test_a_torn_tail_of_a_journal_loses_what_it_held_and_its_group_is_told(event_cluster, tallies, tmp_path):
    cluster = event_cluster
    gone, publisher = cluster.run_all("mails", "orders")
    gone.terminate()
    gone.wait()
    publish(cluster)
    # How far it went is noted beside the journal a moment after the commit.
    (lock,) = (tmp_path / "journals").rglob("*.lock")
    eventually(lambda: b" %d " % MANY in lock.read_bytes(), what="the mark is written")
    publisher.kill()
    publisher.wait()
    (log,) = (tmp_path / "journals").rglob("*.journal-wal")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size * 2 // 3)

    publisher = cluster.run_one("orders")
    publisher.has_said("rewound")
    with cluster.client(timeout=60, DIRECTORY=cluster.only("orders", publisher)) as remote:
        remote.orders.publish(MANY, MANY)
    with cluster.client(timeout=60) as remote:
        [group] = remote["events:orders"].stats()["journals"][0]["groups"]
    back = cluster.run_one("mails")

    # What is missing is counted and told; all else comes, once, and no number means two events.
    back.has_said("are lost for mails.send:order.paid")
    assert 0 < group["lost"] < MANY
    tallies.wait_for("handled", 2 * MANY - group["lost"])
    kept = MANY - group["lost"]
    assert sorted(tallies.numbers("handled")) == [*range(kept), *range(MANY, 2 * MANY)]


# --- a group of which everybody is gone ------------------------------------------------------------------------------------


def test_a_group_is_remembered_when_its_members_all_publishers_and_the_registry_were_gone(event_cluster, tallies, tmp_path):
    cluster = event_cluster
    member = cluster.run_one("mails", DIRECTORY_CACHE="none")
    publisher = cluster.run_one("orders", DIRECTORY_CACHE="none")
    eventually(lambda: _notes_in(cluster.listing.directory), what="the listing of the test has the note")
    for process in (member, publisher):
        process.kill()
        process.wait()
    # The listing is the only one who knows now.
    [registry], [port] = cluster.registries, cluster.ports
    registry.kill()
    registry.wait()
    cluster.registry(port)
    eventually(lambda: _notes_of(cluster), what="the registry that is new is told")

    cluster.run_one("orders", JOURNAL_FOLDER=str(tmp_path / "elsewhere"), DIRECTORY_CACHE="none")
    publish(cluster)
    cluster.run_one("mails", DIRECTORY_CACHE="none")

    tallies.wait_until_handled(MANY)
    assert not tallies.duplicates()


def _notes_of(cluster):
    with discovery.open_directory(cluster.url, namespace=cluster.namespace) as directory:
        assert directory.wait_ready(10)
        return _notes_in(directory)


def _notes_in(directory):
    return [note for note in directory.view().notes if GROUP in note.key]
