"""A service that stops answers its callers first; a process of several that dies is restarted."""

import os
import signal

import pytest

from tests.system.processes import eventually


def test_sigterm_lets_running_calls_end(cluster):
    service = cluster.run_one("witness")

    with cluster.client(timeout=20) as remote:
        call = remote.witness.hold.call_async("last", 1)
        eventually(lambda: "began" in remote.witness.lines("last"))
        service.terminate()
        assert call.result() == "last"
    assert service.wait() == 0


def test_a_second_interrupt_kills(cluster):
    service = cluster.run_one("witness")

    with cluster.client(timeout=60) as remote:
        call = remote.witness.hold.call_async("held", 60)
        eventually(lambda: "began" in remote.witness.lines("held"))
        service.interrupt()
        cluster.wait_unlisted("witness", service.pid)
        service.interrupt()
        service.wait()
        with pytest.raises(Exception, match="killed|lost|shutting down"):
            call.result()


def test_a_dead_one_of_several_processes_is_started_again(cluster):
    supervisor = cluster.launch("maths", "--processes", "3")
    pids = cluster.listing.wait_for(
        lambda: len(cluster.listing.pids("maths")) == 3 and cluster.listing.pids("maths"), what="three are listed"
    )

    os.kill(min(pids), signal.SIGKILL)
    cluster.listing.wait_for(
        lambda: len(cluster.listing.pids("maths") - {min(pids)}) == 3, what="a new one is listed"
    )
    supervisor.terminate()

    assert supervisor.wait() == 0
    cluster.listing.wait_for(lambda: not cluster.listing.pids("maths"), what="all have left")
