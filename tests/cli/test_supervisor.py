"""`zmqservices run --processes N` and `--reload`, in real processes."""

import functools
import os
import re
import signal
import time

import psutil
import pytest

pytestmark = pytest.mark.system

#: The command with a supervisor that checks, restarts and kills after short times.
QUICK = """
import sys

from zmqservices.cli import restarts, supervisor
from zmqservices.cli.main import main

supervisor.TICK = 0.05
supervisor.GRACE = 0.5
restarts.FIRST_PAUSE = 0.1
sys.exit(main())
"""


@pytest.fixture
def start_quick(start):
    """Start the command with such a supervisor."""
    return functools.partial(start, program=("-c", QUICK))


def pid_of(line):
    return int(re.search(r"\(pid (\d+)\)", line)[1])


def wait_gone(pids):
    for pid in pids:
        try:
            psutil.Process(pid).wait(30)
        except psutil.NoSuchProcess:
            pass


def test_as_many_processes_as_asked_come_up_and_stop_together(start, ticker):
    process = start("run", "ticker_module", "--processes", "3")

    pids = [pid_of(process.until("is up: ticker")) for _ in range(3)]
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert len(set(pids)) == 3
    assert process.said.splitlines().count("stopped") == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_settings_reach_the_processes(start, write):
    write("own.yaml", "own: from file\n")
    write(
        "settings.py",
        """
        from zmqservices import config
        from zmqservices.extensions import DependencyProvider, Entrypoint

        class Show(DependencyProvider):
            def setup(self):
                print(config["own"], config["other"], config["NAMESPACE"], config["DIRECTORY"], flush=True)

        class Service:
            name = "settings"
            show = Show()

            @Entrypoint.decorator
            def method(self):
                pass
        """,
    )
    process = start(
        *("run", "settings:Service", "--processes", "1", "-c", "own.yaml", "-d", "other=[1, 2]"),
        *("--namespace", "shop", "--directory", "static:a=tcp://127.0.0.1:9"),
    )

    process.until("from file [1, 2] shop static:")
    process.until("is up: settings")
    process.signal(signal.SIGTERM)

    assert process.end() == 0


def test_a_process_that_dies_is_started_again(start_quick, ticker):
    process = start_quick("run", "ticker_module", "--processes", "1")

    first = pid_of(process.until("is up: ticker"))
    os.kill(first, signal.SIGKILL)
    process.until("was killed by SIGKILL; it is restarted in")
    second = pid_of(process.until("is up: ticker"))
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert second != first


def test_a_process_that_exits_with_0_is_started_again_too(start_quick, ticker):
    process = start_quick("run", "ticker_module", "--processes", "1")

    os.kill(pid_of(process.until("is up: ticker")), signal.SIGTERM)
    process.until("ended with exit code 0; it is restarted in")
    process.until("is up: ticker")
    process.signal(signal.SIGTERM)

    assert process.end() == 0


def test_ctrl_c_stops_gracefully_and_a_second_one_kills(start, ticker):
    process = start("run", "ticker_module", "--processes", "2", SLOW_STOP="3600")

    process.until("is up: ticker", times=2)
    process.signal(signal.SIGINT)
    process.until("stopping\n", times=2)
    process.signal(signal.SIGINT)

    assert process.end() == 130
    assert "stopped" not in process.said.splitlines()


def test_processes_that_do_not_stop_in_time_are_killed(start_quick, write):
    write(
        "deaf.py",
        """
        import signal
        from zmqservices.extensions import DependencyProvider, Entrypoint

        class Deaf(DependencyProvider):
            def stop(self):
                print("hanging", flush=True)
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
                while True:
                    pass

        class Service:
            name = "deaf"
            deaf = Deaf()

            @Entrypoint.decorator
            def method(self):
                pass
        """,
    )
    process = start_quick("run", "deaf", "--processes", "1", "-d", "drain_timeout=0")

    process.until("is up: deaf")
    process.signal(signal.SIGTERM)
    process.until("hanging")

    assert process.end() == 130
    assert "did not stop in time and is killed" in process.said


def test_processes_stop_when_their_supervisor_is_killed(start, ticker):
    process = start("run", "ticker_module", "--processes", "2", SLOW_STOP="0.1")

    pids = [pid_of(process.until("is up: ticker")) for _ in range(2)]
    process.signal(signal.SIGKILL)
    wait_gone(pids)

    process.end()
    assert process.said.splitlines().count("stopped") == 2


def test_processes_with_a_wrong_configuration_are_not_restarted_for_ever(zmqservices, ticker):
    done = zmqservices("run", "ticker_module", "nowhere", "--processes", "2")

    assert done.returncode == 1
    assert done.stderr.count("there is no module 'nowhere'") == 2
    assert done.stderr.count("it is not restarted") == 2
    assert "no process came up" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_unreadable_settings_no_process_starts(zmqservices, ticker):
    done = zmqservices("run", "ticker_module", "--processes", "2", "-d", "drain_timeout=soon")

    assert done.returncode == 2
    assert done.stderr == "Error: drain_timeout is 'soon'; a number of seconds is needed, such as 30.0\n"


def test_each_process_has_its_own_backdoor(start, ticker):
    process = start("run", "ticker_module", "--processes", "2", "--backdoor-port", "0")

    ports = {process.until("Backdoor on 127.0.0.1:").split(":")[1] for _ in range(2)}
    process.until("is up: ticker")
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert len(ports) == 2


def test_a_change_of_the_source_starts_the_service_again(start_quick, ticker):
    process = start_quick("run", "ticker_module", "--reload")

    process.until("is up: ticker")
    ticker.write_text(ticker.read_text().replace('name = "ticker"', 'name = "renamed"'))
    process.until("ticker_module.py has changed; restarting the services")
    process.until("stopped\n")
    process.until("is up: renamed")
    process.signal(signal.SIGTERM)

    assert process.end() == 0


def test_the_supervisor_waits_until_a_broken_source_is_mended(start_quick, ticker):
    process = start_quick("run", "ticker_module", "--reload")
    good = ticker.read_text()

    process.until("is up: ticker")
    ticker.write_text("def (:\n")
    process.until("cannot be imported: SyntaxError")
    process.until("it is not restarted until a file changes")
    ticker.write_text(good)
    process.until("is up: ticker")
    process.signal(signal.SIGTERM)

    assert process.end() == 0


def test_the_supervisor_waits_if_the_source_is_broken_from_the_start(start_quick, ticker):
    good = ticker.read_text()
    ticker.write_text("import nothing_like_it\n")
    process = start_quick("run", "ticker_module", "--reload")

    process.until("it is not restarted until a file changes")
    ticker.write_text(good)
    process.until("is up: ticker")
    process.signal(signal.SIGTERM)

    assert process.end() == 0


def test_a_change_of_the_configuration_restarts_the_service(start_quick, ticker, write):
    config = write("config.yaml", "rpc_timeout: 5\n")
    process = start_quick("run", "ticker_module", "--reload", "-c", "config.yaml")

    process.until("is up: ticker")
    config.write_text("rpc_timeout: 6\n")
    os.utime(config, ns=(time.time_ns(), time.time_ns()))
    process.until("config.yaml has changed; restarting the services")
    process.until("is up: ticker")
    process.signal(signal.SIGTERM)

    assert process.end() == 0
