"""`zmqservices health` with instances that answer, drain or hang, and without instances."""

import json
import signal
import socket

import pytest

from tests.system.processes import eventually
from zmqservices.cli.health import complaint_of
from zmqservices.cluster.health import greet

pytestmark = pytest.mark.system

SERVICES = """
    import os
    import gevent
    from zmqservices.rpc import rpc
    from zmqservices.timer import timer


    class Maths:
        name = "maths"

        @rpc
        def wait(self, seconds):
            os.write(1, b"the call has begun\\n")
            gevent.sleep(seconds)


    class Clock:
        name = "clock"

        @timer(interval=3600)
        def tick(self):
            pass
"""


def found(completed):
    return {one["service"]: one for one in json.loads(completed.stdout)}


def test_instances_that_answer_hang_and_drain(start, zmqservices, write):
    write("services.py", SERVICES)
    # The one that hosts the directory outlives the others.
    clock = start("run", "services:Clock")
    clock.until("Services started")
    maths = start("run", "services:Maths", "-d", "max_workers=1", "-d", "drain_timeout=60")
    maths.until("Services started")

    page = zmqservices("health")
    assert page.returncode == 0, page.stderr
    assert [line.split()[0] for line in page.stdout.splitlines()] == ["SERVICE", "clock", "maths"]
    well = found(zmqservices("health", "--all", "--here", "--json"))
    assert (well["clock"]["health"], well["maths"]["health"]) == ("listed", "ok")
    assert 0 < well["maths"]["seconds"] < 30

    near = zmqservices("health", "math")
    assert near.returncode == 3
    assert "did you mean 'maths'?" in near.stderr

    maths.signal(signal.SIGSTOP)
    frozen = zmqservices("health", "maths", "--timeout", "0.5")
    assert frozen.returncode == 5
    assert "no answer in time" in frozen.stdout
    assert "no healthy instance of maths" in frozen.stderr
    assert zmqservices("health", "clock").returncode == 0
    maths.signal(signal.SIGCONT)

    call = start("call", "maths.wait", "600", "--timeout", "600")
    maths.until("the call has begun")
    busy = zmqservices("health", "maths")
    assert busy.returncode == 0, busy.stderr
    maths.signal(signal.SIGTERM)
    eventually(lambda: found(zmqservices("health", "--json"))["maths"]["health"] == "draining")
    draining = zmqservices("health", "maths")
    assert (draining.returncode, draining.stderr) == (5, "Error: RemoteUnavailable: no healthy instance of maths\n")
    maths.signal(signal.SIGINT)
    call.end()


def test_answers_have_the_order_of_the_addresses():
    with socket.socket() as silent, socket.socket() as nobody:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        nobody.bind(("127.0.0.1", 0))
        here = [f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in (silent, nobody)]

        answers = greet([*here, "quic://x"], "node", "default", 0.3)

    assert [one.endpoint for one in answers] == [*here, "quic://x"]
    assert [one.seconds for one in answers] == [None] * 3
    assert "no connection could be made" in answers[1].problem
    assert "quic://x" in answers[2].problem
    assert greet([], "node", "default", 0.3) == []


def one(service, health):
    return {"service": service, "instance": "i", "health": health, "is_healthy": health == "ok"}


@pytest.mark.parametrize(
    "services, found, here, every, sentence",
    [
        ((), [one("a", "ok"), one("a", "draining"), one("b", "ok")], False, False, ""),
        ((), [one("a", "ok"), one("a", "draining")], False, True, "1 of 2 instances are not healthy: a i: draining"),
        ((), [one("a", "ok"), one("b", "draining")], False, False, "no healthy instance of b"),
        (("a",), [], True, False, "no healthy instance of this host of a"),
        ((), [], True, False, "no service of this host is listed"),
    ],
)
def test_the_sentence_names_unhealthy_instances(services, found, here, every, sentence):
    assert complaint_of(services, found, here, every) == sentence
