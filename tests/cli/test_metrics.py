"""`zmqservices run` serves metrics: one page for a process, and one for all processes of a supervisor."""

import os
import signal
import socket
import threading
import urllib.request
from contextlib import ExitStack, closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_port
from tests.system.processes import eventually
from zmqservices.cli import merged_metrics
from zmqservices.cli.merged_metrics import merged

MATHS = """
    from zmqservices.rpc import rpc


    class Maths:
        name = "maths"

        @rpc
        def double(self, number):
            return number * 2
"""


def page(port):
    """The samples of the page; None while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            text = response.read().decode()
    except OSError:
        return None
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def processes_with(samples, name):
    return {sample.labels.get("process") for sample in samples or () if sample.name == name}


@pytest.mark.system
@pytest.mark.timeout(180)
def test_a_process_serves_its_page_until_it_ends(start, write):
    write("maths.py", MATHS)
    port = free_port()
    process = start("run", "maths", "--metrics-port", str(port), "--directory", f"local:{free_port()}")
    process.until("Services started")

    samples = page(port)
    assert processes_with(samples, "zmqservices_workers_max") == {None}
    assert {sample.labels["service_name"] for sample in samples if sample.name == "zmqservices_workers_max"} == {"maths"}

    process.signal(signal.SIGTERM)
    assert process.end() == 0
    assert page(port) is None


@pytest.mark.system
@pytest.mark.timeout(180)
def test_several_processes_share_one_page_that_names_each_of_them(start, write):
    write("maths.py", MATHS)
    port = free_port()
    arguments = ("--processes", "2", "-d", f"METRICS_ADDRESS=127.0.0.1:{port}", "--directory", f"local:{free_port()}")
    supervisor = start("run", "maths", *arguments)
    supervisor.until("is up", times=2)

    samples = page(port)
    assert processes_with(samples, "zmqservices_workers_max") == {"1", "2"}
    instances = {sample.labels["service_instance_id"] for sample in samples if sample.name == "zmqservices_workers_max"}
    assert len(instances) == 2
    assert [sample.value for sample in samples if sample.name == "zmqservices_processes"] == [2]

    pid = int(supervisor.lines[-1].partition("pid ")[2].partition(")")[0])
    os.kill(pid, signal.SIGKILL)
    supervisor.until("was killed by SIGKILL")
    eventually(lambda: len(processes_with(page(port), "zmqservices_workers_max")) == 1)
    supervisor.until("is up")
    eventually(lambda: processes_with(page(port), "zmqservices_workers_max") == {"1", "2"})

    supervisor.signal(signal.SIGTERM)
    assert supervisor.end() == 0


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("nonsense", "METRICS_ADDRESS is 'nonsense'; HOST:PORT is needed, such as '127.0.0.1:9464'"),
        (
            "127.0.0.1:0",
            "METRICS_ADDRESS is '127.0.0.1:0', and prometheus-client is not installed; `pip install zmqservices[prometheus]` "
            "brings it",
        ),
    ],
)
@pytest.mark.system
@pytest.mark.timeout(180)
def test_a_page_that_cannot_be_served_is_reported_before_anything_starts(zmqservices, write, address, text):
    write("maths.py", MATHS)
    write("prometheus_client.py", "raise ImportError('not there')")

    result = zmqservices("run", "maths", "-d", f"METRICS_ADDRESS={address}", PYTHONPATH_FIRST="1")

    assert result.returncode == 2
    assert text in result.stderr


def test_pages_are_merged_metric_by_metric():
    one = '# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total{method="a,b}"} 1.0\ncalls_total 2.0\n'
    other = one + "# HELP up Up.\n# TYPE up gauge\nup 1.0\n"

    lines = merged({1: one, 2: other}).splitlines()

    assert lines == [
        "# HELP zmqservices_processes Processes whose metrics are on this page.",
        "# TYPE zmqservices_processes gauge",
        "zmqservices_processes 2",
        "# HELP calls_total Calls.",
        "# TYPE calls_total counter",
        'calls_total{process="1",method="a,b}"} 1.0',
        'calls_total{process="1"} 2.0',
        'calls_total{process="2",method="a,b}"} 1.0',
        'calls_total{process="2"} 2.0',
        "# HELP up Up.",
        "# TYPE up gauge",
        'up{process="2"} 1.0',
    ]


def test_clients_that_never_finish_their_request_are_let_go_and_are_few(monkeypatch):
    monkeypatch.setattr(merged_metrics, "REQUEST_TIMEOUT", 0.5)
    monkeypatch.setattr(merged_metrics, "PATIENCE", 0.1)
    monkeypatch.setattr(merged_metrics, "MOST_CONNECTIONS", 2)
    port = free_port()
    metrics = merged_metrics.MergedMetrics(f"127.0.0.1:{port}", 0)
    metrics.start()
    try:
        before = threading.active_count()
        with ExitStack() as stack:
            slow = [stack.enter_context(closing(socket.create_connection(("127.0.0.1", port)))) for _ in range(6)]
            for one in slow:
                one.sendall(b"GET /metrics HTTP/1.1\r\n")
                one.setblocking(False)
            seen = []
            eventually(lambda: seen.append(threading.active_count()) or all(is_let_go(one) for one in slow))

        assert max(seen) <= before + 2
        eventually(lambda: page(port))
    finally:
        metrics.stop()


def is_let_go(raw):
    """Whether the connection has ended; otherwise another byte is sent over it."""
    try:
        raw.send(b"x")
        return raw.recv(65_536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
