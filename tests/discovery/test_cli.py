"""The command line, as a user runs it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from discovery.cli import _row
from discovery.model import Record, Seen
from tests.discovery.stage import AT_LAST, House, Watch, knows, record, registries
from tests.ports import free_port

pytestmark = pytest.mark.system


def run(*arguments, timeout=30, **environment):
    """The finished process of `python -m discovery`."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "discovery", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )


class Running:
    """A command that goes on until it is told to stop."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-u", "-m", "discovery", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=AT_LAST)

    def line(self):
        return self.process.stdout.readline()

    def stop(self, number=signal.SIGTERM):
        """(exit code, what it said at last on either side)."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=AT_LAST)
        return self.process.returncode, out, err


@pytest.fixture
def house():
    with registries() as (server,):
        house = House(server.url)
        yield house
        house.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_registry_serves_until_it_is_told_to_stop(number):
    with Running("serve", "--bind", "tcp://127.0.0.1:0", "--json") as serving:
        said = json.loads(serving.line())
        house = House(said["url"])
        directory = house.open()
        directory.announce(record())
        assert said["event"] == "serving"
        assert directory.flush(AT_LAST)
        assert directory.view().registries[0]["boot_id"] == said["boot_id"]

        assert serving.stop(number) == (0, "", "")
        house.close()


#: The command as in a terminal: whoever runs the tests may have SIGHUP ignored, and that is inherited.
IN_A_TERMINAL = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from discovery.cli import main; main()"


@pytest.mark.parametrize("is_closed", [True, False], ids=["no stdout", "a pipe that nobody reads"])
def test_a_registry_survives_closed_output_and_stops_gracefully_with_its_terminal(is_closed):
    port = free_port()
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-W", "error", "-c", IN_A_TERMINAL, "serve", "--bind", f"tcp://127.0.0.1:{port}"]
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command] if is_closed else command
    process = subprocess.Popen(shell, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    house = House(f"tcp://127.0.0.1:{port}")
    try:
        here, there = house.open(), house.open()
        seen = Watch(there)
        here.announce(record())
        seen.wait_now(knows("one"))
        assert here.flush(AT_LAST)

        process.send_signal(signal.SIGHUP)

        assert (process.wait(AT_LAST), process.stderr.read()) == (0, "")
        assert knows("one")(there.view())
    finally:
        house.close()
        process.kill()
        process.communicate()


def test_a_taken_port_is_reported_in_one_sentence(house):
    done = run("serve", "--bind", house.url)

    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: cannot listen at {house.url}: Address already in use")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--bind", "nowhere"], "tcp://HOST:PORT is needed"),
        (["serve", "--bind", "tcp://no-such-host.invalid:1"], "not found"),
        (["serve", "--ttl", "0"], "--ttl is 0; seconds from 0.1 to 3600 are needed"),
        (["list", "--directory", "quic://10.0.0.5:2379"], "no backend opens 'quic:'"),
        (
            ["list", "--directory", "tcp://127.0.0.1:1", "--timeout", "0.2"],
            "no registry answered within 0.2 s",
        ),
        (["watch", "--directory", "tcp://127.0.0.1"], "a port from 1 to 65535 is needed"),
        (["list", "--namespace", ""], "the namespace is ''"),
    ],
)
def test_an_error_is_one_sentence(arguments, sentence):
    done = run(*arguments)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_list_shows_instances_and_their_addresses(house):
    directory = house.open()
    directory.announce(record(endpoints={"rpc": "tcp://10.0.0.5:4000"}, host="h", pid=7))
    assert directory.flush(AT_LAST)

    header, row = run("list", "--directory", house.url).stdout.splitlines()

    assert header.split() == ["NAMESPACE", "SERVICE", "INSTANCE", "STATE", "AGE", "ENDPOINTS", "PROCESS"]
    cells = row.split()
    assert cells[:4] == ["default", "maths", "one", "UP"]
    assert cells[-2:] == ["rpc=tcp://10.0.0.5:4000", "h:7"]


def test_a_list_in_json_has_all_fields(house):
    directory = house.open()
    directory.announce(record(methods={"add": {"idempotent": True}}))
    house.open(namespace="other").announce(record("two", namespace="other"))
    assert all(item.flush(AT_LAST) for item in house._directories)

    everything = json.loads(run("list", "--json", ZMQSERVICES_DIRECTORY=house.url).stdout)
    one = json.loads(run("list", "--json", "--namespace", "default", "--directory", house.url).stdout)

    assert {item["instance"] for item in everything["records"]} == {"one", "two"}
    assert [item["methods"] for item in one["records"]] == [{"add": {"idempotent": True}}]
    assert one["records"][0]["age"] < 10.0
    assert one["registries"][0]["state"] == "up"


def test_an_empty_list_says_so(house):
    assert run("list", "--directory", house.url).stdout.startswith("no instance is known")


def test_a_list_on_a_machine_without_services_starts_no_registry(monkeypatch):
    done = run("list", "--timeout", "0.3", ZMQSERVICES_LOCAL_PORT=str(free_port()))

    assert done.returncode == 1
    assert "nothing listens there" in done.stderr


def test_a_watch_shows_instances_that_come_change_and_go(house):
    directory = house.open()
    with Running("watch", "--directory", house.url, "--json") as watching:
        directory.announce(record())
        came = json.loads(watching.line())
        directory.announce(record(version=1, state="DRAINING"))
        changed = json.loads(watching.line())
        directory.withdraw("one")
        left = json.loads(watching.line())

        assert [item["event"] for item in (came, changed, left)] == ["added", "changed", "removed"]
        assert changed["state"] == "DRAINING"
        assert watching.stop() == (0, "", "")


def test_texts_of_peers_move_no_cursor():
    evil = "a\x1b[2J\nb"
    record = Record(service=evil, instance=evil, host=evil, endpoints={"rpc": evil})

    cells = _row(Seen(record, age=0.0, suspect=False))

    assert cells[1] == r"a\x1b[2J\nb"
    assert "\x1b" not in "".join(cells) and "\n" not in "".join(cells)
