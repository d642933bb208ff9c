"""`zmqservices run` goes on serving when its streams are closed, or the other end of a pipe or terminal is gone."""

import errno
import os
import pty
import signal
import subprocess
import sys

import pytest

from zmqservices.cli import streams

from .conftest import HOME, PATIENCE

pytestmark = pytest.mark.system

TELLER = """
    import os, sys
    from zmqservices.timer import timer

    class Teller:
        name = "teller"
        told = 0

        @timer(interval=0.05)
        def tell(self):
            print("something", flush=True)
            print("something else", file=sys.stderr, flush=True)
            Teller.told += 1
            if Teller.told == 3 or os.path.exists(os.environ["TOLD"] + ".again"):
                with open(os.environ["TOLD"], "a") as file:
                    file.write("told\\n")
"""


@pytest.fixture
def shell(tmp_path, write):
    """Run a line of shell, in which $RUN is the command that runs a service which prints; `told()` waits for its word."""
    write("teller.py", TELLER)
    started = []

    def run(line, **options):
        told = tmp_path / f"told-{len(started)}"
        environ = {**os.environ, "PYTHONPATH": str(HOME), "TOLD": str(told)}
        line = line.replace("$RUN", f"exec {sys.executable} -W error -m zmqservices run teller")
        process = subprocess.Popen(["sh", "-c", line], cwd=tmp_path, env=environ, start_new_session=True, **options)
        process.told = told
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def has_told(process):
    _until(process, process.told.exists)


def tells_on(process):
    process.told.unlink(missing_ok=True)
    process.told.with_name(f"{process.told.name}.again").touch()
    _until(process, process.told.exists)


def _until(process, claim):
    import time

    end = time.monotonic() + PATIENCE
    while not claim():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < end
        time.sleep(0.01)


def test_any_stream_may_be_closed_from_the_start(shell):
    lines = ["$RUN 2>&-", "$RUN >&-", "$RUN <&-", "$RUN <&- >&- 2>&-", "$RUN --processes 1 <&- >&- 2>&-"]
    processes = [shell(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for line in lines]

    for process in processes:
        has_told(process)
        process.send_signal(signal.SIGTERM)

    assert [process.wait(PATIENCE) for process in processes] == [0] * len(lines)


def test_a_pipe_whose_reader_ends_does_not_stop_the_service(shell):
    process = shell("$RUN", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    has_told(process)

    process.stdout.close()
    process.stderr.close()

    tells_on(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


def test_a_closed_terminal_stops_the_service_gracefully(shell):
    ours, theirs = pty.openpty()
    process = shell("$RUN", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    has_told(process)

    os.close(ours)  # What it prints from here on is an input/output error.
    tells_on(process)
    process.send_signal(signal.SIGHUP)

    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("options", [[], ["--processes", "2"]])
def test_sighup_drains_as_sigterm_does(start, ticker, options):
    process = start("run", "ticker_module", *options, SLOW_STOP="0.2")
    process.until("is up" if options else "Services started", times=2 if options else 1)

    process.signal(signal.SIGHUP)

    assert process.end() == 0
    assert process.said.splitlines().count("stopped") == (2 if options else 1)


def test_under_nohup_sighup_has_no_effect(start, ticker):
    ignoring = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    program = ("-c", ignoring, sys.executable, "-m", "zmqservices")
    process = start("run", "ticker_module", program=program)
    process.until("Services started")

    process.signal(signal.SIGHUP)
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert process.said.count("stopping\n") == 1


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_text_that_a_closed_stream_rejects_counts_as_written(tmp_path, number, monkeypatch):
    with (tmp_path / "out").open("wb") as file:
        raw = streams.Outliving(os.dup(file.fileno()), "wb")
    pointed = []
    monkeypatch.setattr(raw, "_point_nowhere", lambda: pointed.append(True), raising=False)

    def fail(self, data):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(streams, "_write", fail)

    assert raw.write(b"four") == 4
    assert bool(pointed) == (number != errno.ENOSPC)
    raw.close()


def test_other_errors_of_a_stream_are_raised(tmp_path):
    with (tmp_path / "out").open("wb") as file:
        raw = streams.Outliving(os.dup(file.fileno()), "wb")
    raw.close()

    with pytest.raises(ValueError, match="closed"):
        raw.write(b"four")
