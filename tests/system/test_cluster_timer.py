"""One of several processes fires a cluster timer; another one takes over when it stops or dies."""

import pytest

from tests.system.processes import eventually


@pytest.fixture
def cluster(make_cluster):
    """One whose leases are short."""
    return make_cluster(DIRECTORY_TTL=1)


class Ticks:
    """The file in which the instances write."""

    def __init__(self, path):
        self.path = path

    def lines(self):
        if not self.path.exists():
            return []
        return [(int(pid), float(at)) for pid, at in map(str.split, self.path.read_text().splitlines())]

    def pids_after(self, count, more=1):
        """The pids of the lines after the first `count`, once there are `more`."""
        lines = eventually(lambda: (lines := self.lines()[count:])[more - 1 :] and lines, what=f"{more} more ticks")
        return [pid for pid, _ in lines]


def test_one_process_fires_and_another_when_it_is_gone_in_whatever_way(cluster, tmp_path):
    ticks = Ticks(tmp_path / "ticks")
    processes = [cluster.run_one("clock", TICKS_FILE=str(ticks.path)) for _ in range(3)]
    first, second, third = (process.pid for process in processes)

    assert set(ticks.pids_after(0, more=10)) == {first}

    processes[0].kill()
    cluster.wait_unlisted("clock", first)
    begun = len(ticks.lines())
    assert set(ticks.pids_after(begun, more=10)) == {second}

    processes[1].terminate()
    assert processes[1].wait() == 0
    begun = len(ticks.lines())
    assert set(ticks.pids_after(begun, more=10)) == {third}

    pids = [pid for pid, _ in ticks.lines()]
    assert pids == sorted(pids, key=[first, second, third].index), "no two took turns"


def test_while_no_registry_can_be_reached_nothing_changes_hands(cluster, tmp_path):
    ticks = Ticks(tmp_path / "ticks")
    first, second = (cluster.run_one("clock", TICKS_FILE=str(ticks.path)) for _ in range(2))

    cluster.registries[0].kill()
    cluster.registries[0].wait()
    # For longer than a lease of one second.
    assert set(ticks.pids_after(len(ticks.lines()), more=30)) == {first.pid}

    cluster.registry(cluster.ports[0])
    cluster.wait_listed("clock", second)
    assert set(ticks.pids_after(len(ticks.lines()), more=30)) == {first.pid}
