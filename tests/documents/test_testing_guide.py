"""The tests that docs/testing.rst shows pass as they stand there."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "testing.rst").read_text(encoding="utf-8")


def blocks():
    found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE)
    return [textwrap.dedent(block) for block in found]


COMMANDS = {"pytest": ["pytest"], "zmqservices test": ["zmqservices", "test"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The tests of the guide, as each command runs them: side by side, since they wait most of the time."""
    module, *tests = blocks()
    assert len(tests) == 8
    started = {}
    for name, command in COMMANDS.items():
        folder = tmp_path_factory.mktemp("guide")
        (folder / "shop.py").write_text(module)
        for number, test in enumerate(tests):
            (folder / f"test_{number}.py").write_text(test)
        started[name] = subprocess.Popen(
            [sys.executable, "-m", *command, "-q", "-W", "error", "-p", "no:cacheprovider", "--timeout", "50"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    yield started
    for run in started.values():
        with run:
            run.kill()


@pytest.mark.system
@pytest.mark.parametrize("command", COMMANDS)
def test_the_tests_of_the_guide_pass(runs, command):
    said, _ = runs[command].communicate(timeout=55)

    assert runs[command].returncode == 0, said
    assert re.search(r"\b9 passed", said), said


def test_every_fixture_is_in_the_table():
    from zmqservices.testing import pytest as plugin

    fixtures = {name for name, value in vars(plugin).items() if type(value).__name__ == "FixtureFunctionDefinition"}
    gone = {"rabbit_manager", "vhost_pipeline", "amqp_uri", "get_message_from_queue", "fast_teardown"}

    assert [name for name in sorted(fixtures - gone) if f"``{name}``" not in PAGE] == []
