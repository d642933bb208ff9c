"""Real servers on loopback, for the length of a test run: skipped loudly at home where they are missing, failing in CI."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager

import psycopg
import pytest

from tests.ports import free_port
from tests.system.processes import Guardian

#: Seconds until a server must take connections.
PATIENCE = 45.0


def program(name, *places):
    """The path of a program. Skips the test, or in CI fails it, where it is not installed."""
    found = shutil.which(name) or next((path for place in places for path in sorted(glob.glob(place))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed, and CI must test against it")
        pytest.skip(f"NOT TESTED: {name} is not installed; `apt-get install` it")
    return found


@contextmanager
def running(command, port, answers=lambda: True, **options):
    """A server that takes connections at `port`, and `answers`, while the block lasts, and not beyond this process."""
    guardian = Guardian()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    guardian.watch(process.pid)
    try:
        _wait_for(process, port, answers)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
        guardian.forget(process.pid)
        guardian.close()


def _wait_for(process, port, answers):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            if answers():
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{process.args[0]} does not listen: {process.communicate()[0]}")
        time.sleep(0.02)


@contextmanager
def redis_server():
    """The URL of a Redis that keeps nothing."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running([program("redis-server"), *options], port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def memcached():
    """HOST:PORT of a memcached."""
    port = free_port()
    options = ["-l", "127.0.0.1", "-p", str(port), "-m", "16", *_as_nobody()]
    with running([program("memcached"), *options], port):
        yield f"127.0.0.1:{port}"


def _as_nobody():
    return ["-u", "nobody"] if os.geteuid() == 0 else []


@contextmanager
def postgresql():
    """The URL of a PostgreSQL that is empty. It refuses to run as root, and runs as postgres then."""
    port = free_port()
    places = "/usr/lib/postgresql/*/bin/"
    initdb, postgres = (program(name, places + name) for name in ("initdb", "postgres"))
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    # Not in a folder of pytest's, which others may not enter.
    with tempfile.TemporaryDirectory(prefix="zmqservices-") as folder:
        if who:
            shutil.chown(folder, "postgres", "postgres")
        subprocess.run(
            [initdb, "-D", f"{folder}/data", "-U", "tester", "--auth=trust", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=50, **who,
        )  # fmt: skip
        options = ["-D", f"{folder}/data", "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off"]
        url = f"postgresql://tester@127.0.0.1:{port}/postgres"
        # It takes connections before it is ready to answer them.
        with running([postgres, *options], port, lambda: _is_ready(url), cwd=folder, **who):
            yield url.replace("postgresql:", "postgresql+psycopg:")


def _is_ready(url):
    try:
        psycopg.connect(url, connect_timeout=1).close()
    except psycopg.errors.ConnectionTimeout:
        return False  # On a busy machine it may take longer than that to answer its first client.
    except psycopg.OperationalError as exc:
        if "starting up" in str(exc):
            return False
        raise
    return True
