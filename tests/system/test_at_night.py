"""Something is broken, and somebody who has never seen the services finds what, where and why with two commands."""

import platform
from functools import partial

import pytest

from tests.system.processes import eventually as eventually_exactly
from zmqservices import config
from zmqservices.cli.main import main
from zmqservices.exceptions import RemoteError

#: Seconds that anything here may take on a busy machine.
PATIENCE = 60.0

#: Looking costs processor time.
eventually = partial(eventually_exactly, timeout=PATIENCE, pause=0.2)


class Stranger:
    """Types commands, and reads the rows of what they print."""

    def __init__(self, cluster, capsys, monkeypatch):
        self._capsys = capsys
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)

    def types(self, *words):
        """What a command prints, on stdout and on stderr."""
        self._capsys.readouterr()
        with config.patch({}):
            main([*words, "--timeout", "10"])
        return "".join(self._capsys.readouterr())

    def row(self, command, *words):
        """The first row with all these words, or None."""
        rows = (line for line in self.types(*command.split()).splitlines())
        return next((line for line in rows if all(word in line for word in words)), None)


@pytest.mark.timeout(300)
def test_what_hangs_what_is_gone_and_what_is_missing_is_named(cluster, capsys, monkeypatch):
    patient = {"rpc_wait_for_service": PATIENCE, "rpc_timeout": PATIENCE}
    cluster.run_one("tests.system.services.night:Front", "front", STATISTICS="true", **patient)
    one, other = cluster.run("tests.system.services.night:Back", "back", 2, STATISTICS="true")
    stranger = Stranger(cluster, capsys, monkeypatch)

    with cluster.client(timeout=PATIENCE) as remote:
        # A call hangs: its method, and the method that waits for it.
        hanging = remote.front.hang.call_async()
        row = eventually(lambda: stranger.row("stats", "back ", " hang ", "front.hang."))
        instance = row.split()[1]
        hangs, lives = (one, other) if instance == instance_of(cluster, one) else (other, one)

        # An error's text is read to its end.
        with pytest.raises(RemoteError):
            remote.front.fail()
        assert eventually(lambda: stranger.row("stats", "front x1", "OSError", "is full"))

        # A process is stopped. When its lease has ended no list has it, but it is known that it was there, and where.
        hangs.freeze()
        cluster.wait_unlisted("back", hangs.pid, PATIENCE)
        gone = ("unlisted", "back", instance, f"was UP, process {hangs.pid} on {platform.node()}")
        assert eventually(lambda: stranger.row("stats", *gone))
        assert remote.front.ask() == lives.pid

        # Nobody is left who could answer.
        lives.kill()
        waiting = remote.front.ask.call_async()
        assert eventually(lambda: stranger.row("top --once", "back: calls that wait for an instance: 1"))
        assert " 0/" in stranger.row("top --once --services", "back ")
        (back,) = cluster.run("tests.system.services.night:Back", "back")
        assert waiting.result() == back.pid
        hangs.thaw()
        with pytest.raises(Exception, match=r"hang|lost|executed|in flight"):
            hanging.result()


def instance_of(cluster, process):
    return next(record.instance for record in cluster.listing.records("back") if record.pid == process.pid)
