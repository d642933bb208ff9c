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


@pytest.mark.system
@pytest.mark.parametrize("command", [["pytest"], ["zmqservices", "test"]], ids=" ".join)
def test_the_tests_of_the_guide_pass(tmp_path, command):
    module, *tests = blocks()
    (tmp_path / "shop.py").write_text(module)
    for number, test in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(test)

    done = subprocess.run(
        [sys.executable, "-m", *command, "-q", "-W", "error", "-p", "no:cacheprovider", "--timeout", "50"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(tests) == 7
    assert re.search(r"\b8 passed", done.stdout), done.stdout


def test_every_fixture_is_in_the_table():
    from zmqservices.testing import pytest as plugin

    fixtures = {name for name, value in vars(plugin).items() if type(value).__name__ == "FixtureFunctionDefinition"}
    gone = {"rabbit_manager", "vhost_pipeline", "amqp_uri", "get_message_from_queue", "fast_teardown"}

    assert [name for name in sorted(fixtures - gone) if f"``{name}``" not in PAGE] == []
