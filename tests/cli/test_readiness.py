"""A process tells its environment whether it is ready: with a file, with a port, and over systemd's socket."""

import os
import signal
import socket

import pytest

from tests.ports import free_port
from tests.system.processes import eventually
from zmqservices.cli.readiness import Readiness
from zmqservices.exceptions import ConfigurationError


@pytest.fixture
def systemd(tmp_path):
    """The socket that systemd gives a unit of Type=notify; `said()` is what it was told so far."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unit:
        unit.bind(str(tmp_path / "notify"))
        unit.setblocking(False)
        told = []

        def said():
            try:
                while True:
                    told.append(unit.recv(4096).decode())
            except BlockingIOError:
                return list(told)

        said.path = str(tmp_path / "notify")
        yield said


@pytest.fixture
def port():
    return free_port()


def listens(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5):
            return True
    except ConnectionRefusedError:
        return False


def test_the_file_the_port_and_systemd_learn_ready_and_not_ready(tmp_path, systemd, port, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.path)
    file = tmp_path / "ready"
    file.write_text("of a process that was killed")
    readiness = Readiness.read({"READY_FILE": str(file), "READY_ADDRESS": f"127.0.0.1:{port}"})
    assert not file.exists()
    assert not listens(port)
    assert systemd() == []
    assert "NOTIFY_SOCKET" not in os.environ

    for _ in range(2):
        readiness.open()
        readiness.open()
        assert file.read_text() == f"{os.getpid()}\n"
        assert file.stat().st_mode & 0o777 == 0o644
        assert all(listens(port) for _ in range(3))
        readiness.accept()
        readiness.close()
        assert not file.exists()
        assert not listens(port)
    assert systemd() == ["READY=1", "READY=1"]

    readiness.open()
    readiness.stopping()
    readiness.stopping()
    assert not file.exists()
    assert systemd() == ["READY=1", "READY=1", "READY=1", "STOPPING=1"]
    assert [path.name for path in tmp_path.iterdir()] == ["notify"]


def test_without_settings_nothing_is_done():
    readiness = Readiness.read({})
    readiness.open()
    readiness.accept()
    readiness.stopping()


@pytest.mark.parametrize(
    "setting, value, sentence",
    [
        ("READY_FILE", "/nowhere/all", "READY_FILE is '/nowhere/all', and there is no folder '/nowhere'; make it first"),
        ("READY_FILE", "/", "READY_FILE is '/', and that is a folder; name another file"),
        ("READY_FILE", 7, "READY_FILE is 7; a text is needed"),
        ("READY_ADDRESS", "9465", "READY_ADDRESS is '9465'; HOST:PORT is needed, such as '0.0.0.0:9465'"),
        ("READY_ADDRESS", "host:99999", "READY_ADDRESS is 'host:99999'; HOST:PORT is needed, such as '0.0.0.0:9465'"),
    ],
)
def test_an_unusable_setting_is_reported_before_anything_starts(setting, value, sentence):
    with pytest.raises(ConfigurationError) as caught:
        Readiness.read({setting: value})
    assert str(caught.value) == sentence


def test_a_taken_port_is_reported_before_anything_starts():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot bind READY_ADDRESS 127.0.0.1:{port}: Address already in use"):
            Readiness.read({"READY_ADDRESS": f"127.0.0.1:{port}"})


@pytest.mark.system
def test_a_process_is_ready_until_it_begins_to_stop(start, ticker, tmp_path, systemd, port):
    file = tmp_path / "ready"
    arguments = ("-d", f"READY_FILE={file}", "-d", f"READY_ADDRESS=127.0.0.1:{port}")
    process = start("run", "ticker_module", *arguments, NOTIFY_SOCKET=systemd.path, SLOW_STOP="1")
    process.until("Services started")
    assert file.read_text() == f"{process.popen.pid}\n"
    assert listens(port)
    assert systemd() == ["READY=1"]

    process.signal(signal.SIGTERM)
    process.until("stopping")
    assert not file.exists()
    assert not listens(port)
    assert systemd() == ["READY=1", "STOPPING=1"]
    assert process.end() == 0


@pytest.mark.system
def test_a_supervisor_is_ready_while_all_its_processes_are_ready(start, ticker, tmp_path, systemd, port):
    file = tmp_path / "ready"
    arguments = ("--processes", "2", "-d", f"READY_FILE={file}", "-d", f"READY_ADDRESS=127.0.0.1:{port}")
    supervisor = start("run", "ticker_module", *arguments, NOTIFY_SOCKET=systemd.path)
    supervisor.until("is up", times=2)
    eventually(file.exists)
    eventually(lambda: listens(port))
    assert file.read_text() == f"{supervisor.popen.pid}\n"

    pid = int(supervisor.lines[-1].partition("pid ")[2].partition(")")[0])
    os.kill(pid, signal.SIGKILL)
    supervisor.until("was killed by SIGKILL")
    eventually(lambda: not file.exists())
    assert not listens(port)
    supervisor.until("is up")
    eventually(file.exists)
    eventually(lambda: listens(port))

    supervisor.signal(signal.SIGTERM)
    assert supervisor.end() == 0
    assert not file.exists()
    assert systemd() == ["READY=1", "READY=1", "STOPPING=1"]
