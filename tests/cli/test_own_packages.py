"""zmqservices imports its own packages even if modules of the working directory have the same names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zmqservices.cli import own_packages

SERVICE = """
from zmqservices.rpc import rpc

class Greeting:
    name = "greeting"

    @rpc
    def hello(self, name):
        return f"Hello, {name}!"
"""

CONSOLE_SCRIPT = "from zmqservices.cli.main import main; raise SystemExit(main())"


@pytest.fixture
def folder(tmp_path):
    """A folder with a service, and with a module that has the name of one of our packages."""
    (tmp_path / "greeting.py").write_text(SERVICE)
    (tmp_path / "discovery.py").write_text("raise RuntimeError('the wrong module')")
    return tmp_path


def run(folder, *argv):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ZMQSERVICES_DIRECTORY": "static:a=tcp://127.0.0.1:9"}
    command = [sys.executable, *argv]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.system
@pytest.mark.parametrize("program", [["-m", "zmqservices"], ["-c", CONSOLE_SCRIPT]])
def test_a_module_with_the_name_of_our_package_is_not_imported(folder, program):
    ended = run(folder, *program, "ls")

    assert ended.returncode == 0, ended.stderr
    assert "the wrong module" not in ended.stderr


@pytest.mark.system
@pytest.mark.parametrize("name", own_packages.NAMES)
def test_a_service_module_with_that_name_is_refused_with_a_sentence(folder, name):
    (folder / f"{name}.py").write_text("raise RuntimeError('the wrong module')")

    # As the console script: `python -m zmqservices` would run the user's own module of that name.
    ended = run(folder, "-P", "-c", CONSOLE_SCRIPT, "run", name)

    assert ended.returncode == 2
    assert f"the module {name!r} has the name of a package of zmqservices" in ended.stderr
    assert "rename it" in ended.stderr


@pytest.mark.system
@pytest.mark.parametrize("name", ["bench", "examples", "tests"])
def test_project_folders_that_are_not_packages_hide_no_service_module(folder, name):
    (folder / f"{name}.py").write_text(SERVICE.replace("@rpc", "@staticmethod"))

    ended = run(folder, "-P", "-c", CONSOLE_SCRIPT, "run", name)

    assert ended.returncode == 2
    assert f"no service in the module {name!r}" in ended.stderr, "it is the user's module that was imported"


@pytest.mark.system
def test_a_registry_is_a_command_of_the_one_program(folder):
    ended = run(folder, "-m", "zmqservices", "registry", "--help")

    assert ended.returncode == 0
    assert all(command in ended.stdout for command in ("serve", "list", "watch"))


def test_only_names_of_our_packages_are_hidden(folder):
    (folder / "orders.py").touch()

    assert own_packages.hidden_in(folder) == [folder / "discovery.py"]
    assert own_packages.hidden_in(folder / "nowhere") == []
