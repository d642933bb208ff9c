"""zmqservices.hosting in new processes, patched by gevent or not, without any network."""

import subprocess
import sys

import pytest

SERVICE = """
import sys
{first_line}
import threading
from gevent import monkey
from gevent.event import AsyncResult
from zmqservices.extensions import Entrypoint
from zmqservices.runners import run_services

class Service:
    name = "service"

    @Entrypoint.decorator
    def run(self, local):
        before = getattr(local, "value", None)
        local.value = 1
        return before

local = threading.local()
with run_services({{}}, Service) as runner:
    (container,) = runner.containers
    (entrypoint,) = container.entrypoints
    results = []
    for _ in range(3):
        outcome = AsyncResult()
        container.submit(entrypoint, (local,), None, handle_result=lambda ctx, *it: (outcome.set(it), it)[1])
        results.append(outcome.get(timeout=30))
assert not [name for name in sys.modules if name == "zmq" or name.startswith("zmqservices.wire")]
print(monkey.is_anything_patched(), [result for result, _ in results], [error for _, error in results])
"""


@pytest.mark.parametrize(
    ("first_line", "printed"),
    [
        ("", "False [None, 1, 1] [None, None, None]"),
        ("from gevent.monkey import patch_all; patch_all()", "True [None, None, None] [None, None, None]"),
    ],
    ids=["as it is", "patched"],
)
def test_services_run_in_patched_and_unpatched_processes(first_line, printed):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVICE.format(first_line=first_line)],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (done.stdout.strip(), done.stderr) == (printed, "")


ENDING = """
import gevent
from zmqservices.extensions import Entrypoint
from zmqservices.runners import run_services

class Service:
    name = "service"

    @Entrypoint.decorator
    def run(self):
        raise SystemExit(3)

with run_services({}, Service) as runner:
    (container,) = runner.containers
    container.submit(next(iter(container.entrypoints)), (), None)
    runner.wait()
"""


def test_18_a_method_that_exits_ends_the_process_and_its_services_are_stopped():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=30)

    assert done.returncode == 3
