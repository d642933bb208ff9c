"""`zmqservices run` logs as the settings say: JSON lines, slow calls, all calls."""

import json
import signal

import pytest

from tests.ports import free_port

TICKING = """
    import time
    from zmqservices.timer import timer


    class Clock:
        name = "clock"

        @timer(30, eager=True)
        def tick(self):
            time.sleep(0.1)
            raise ValueError("too late")
"""


@pytest.mark.system
@pytest.mark.timeout(180)
def test_every_line_of_the_log_is_json(start, write):
    write("clock.py", TICKING)
    settings = ("LOG_FORMAT=json", "slow_call_threshold=0.05", "ACCESS_LOG=true", "ANNOUNCE=false")
    process = start("run", "clock", *(part for setting in settings for part in ("-d", setting)))
    process.until("clock.tick ValueError")
    process.signal(signal.SIGTERM)
    assert process.end() == 0

    lines = [json.loads(line) for line in process.lines if line.startswith("{")]
    by_logger = {line["logger"]: line for line in lines}
    assert by_logger["zmqservices.access"]["outcome"] == "ValueError"
    assert by_logger["zmqservices.slow"]["run_seconds"] >= 0.1
    failed = by_logger["zmqservices.hosting.lifecycle"]
    assert failed["exception"]["type"] == "ValueError"
    assert "lifecycle.py" not in failed["exception"]["stacktrace"]
    assert failed["call_id"] == by_logger["zmqservices.access"]["call_id"]


@pytest.mark.system
@pytest.mark.timeout(180)
def test_two_ways_to_configure_the_log_are_refused(zmqservices, write):
    write("clock.py", TICKING)
    write("config.yaml", "LOG_FORMAT: json\nLOGGING: {version: 1}\n")

    result = zmqservices("run", "clock", "-c", "config.yaml", "--directory", f"local:{free_port()}")

    assert result.returncode == 2
    assert "LOG_FORMAT and LOGGING are both set" in result.stderr
