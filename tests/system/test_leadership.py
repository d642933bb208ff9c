"""One of two processes leads; the other one takes over when it is killed or frozen. With each kind of directory."""

import itertools

import pytest

from tests.system.processes import eventually

_numbers = itertools.count()


class Lines:
    """What the instances wrote."""

    def __init__(self, path):
        self._path = path

    def all(self):
        return [tuple(line.split()) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def wait(self, what, pid, start=0):
        """The number of the first such line after the first `start`."""

        def found():
            return next((n for n, line in enumerate(self.all()) if n >= start and line[:2] == (what, str(pid))), None)

        return eventually(lambda: found() is not None and found() + 1, what=f"{what} {pid}") - 1

    def count(self):
        return len(self.all())


@pytest.mark.parametrize("kind", ["registry", "etcd", "zookeeper"])
def test_one_leads_and_another_when_it_stands_still_or_is_killed(kind, request, make_cluster, tmp_path):
    url = None if kind == "registry" else f"{request.getfixturevalue(kind).url}/leading/{next(_numbers)}"
    cluster = make_cluster(url=url, DIRECTORY_TTL=2)
    lines = Lines(tmp_path / "lines")
    first, second = (cluster.run_one("leading", LEADING_FILE=str(tmp_path / "lines")) for _ in range(2))
    lines.wait("works", first.pid)

    first.freeze()
    begun = lines.wait("works", second.pid, lines.wait("gained", second.pid))
    first.thaw()
    # The eldest leads again. Only a lock tells it that it did not meanwhile.
    if url is not None:
        lines.wait("lost", first.pid, begun)
    again = lines.wait("works", first.pid, lines.wait("lost", second.pid, begun))

    first.kill()
    lines.wait("works", second.pid, again)
    second.terminate()
    assert second.wait() == 0

    written = lines.all()
    works = [(int(pid), token) for what, pid, token in written if what == "works"]
    if kind == "registry":
        assert {token for _, token in works} == {"None"}
        return
    # None works once a higher token was seen, but for the one piece of work in which the process was frozen.
    highest, late = 0, 0
    for _, token in works:
        number = 0 if token == "None" else int(token)
        late += number < highest
        highest = max(highest, number)
    assert late <= 1
    assert len({token for _, token in works} - {"None"}) >= 4
