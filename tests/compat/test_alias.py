"""`import nameko` as a name for zmqservices. Each test has an interpreter of its own: imports cannot be taken back."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]


def python(code, cwd, *, ok=True, arguments=("-c",)):
    """What the code prints; with `ok=False` what it says on stderr when it fails."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments, textwrap.dedent(code)],
        cwd=cwd, env={"PATH": "", "PYTHONPATH": f"{HOME}:{cwd}"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode == 0) is ok, done.stderr
    return (done.stdout if ok else done.stderr).strip()


def test_modules_and_classes_are_the_same_under_both_names(tmp_path):
    assert python(
        """
        from zmqservices import compat
        compat.install()
        compat.install()

        import nameko
        import nameko.rpc as as_module
        from nameko.extensions import DependencyProvider
        from nameko.standalone.rpc import ClusterRpcProxy
        from nameko.testing.services import worker_factory
        from nameko.utils.retry import retry
        import zmqservices, zmqservices.extensions, zmqservices.rpc, zmqservices.standalone.rpc

        assert nameko is zmqservices and nameko.config is zmqservices.config
        assert as_module is zmqservices.rpc and nameko.rpc is zmqservices.rpc
        assert DependencyProvider is zmqservices.extensions.DependencyProvider
        assert ClusterRpcProxy is zmqservices.standalone.rpc.ClusterRpcProxy
        assert zmqservices.rpc.__spec__.name == zmqservices.rpc.__name__ == "zmqservices.rpc"
        assert zmqservices.rpc.__loader__ is zmqservices.rpc.__spec__.loader
        print("same")
        """,
        tmp_path,
    ) == "same"


def test_what_is_not_there_is_an_import_error(tmp_path):
    assert python(
        """
        from zmqservices import compat
        compat.install()
        for name in ("nameko.nothing", "nameko.rpc.nothing", "nameko.extensions.nothing"):
            try:
                __import__(name)
            except ModuleNotFoundError as error:
                print(error)
        try:
            from nameko.amqp.publish import Publisher
        except ImportError as error:
            print(error)
        """,
        tmp_path,
    ).splitlines() == [
        "No module named 'nameko.nothing'",
        "No module named 'nameko.rpc.nothing'",
        "No module named 'nameko.extensions.nothing'; 'nameko.extensions' is not a package",
        "zmqservices.amqp.publish has no Publisher: there is no broker to publish to; use zmqservices.events.EventDispatcher, or "
        "zmqservices.standalone.events.event_dispatcher outside of a service",
    ]


@pytest.fixture
def real_nameko(tmp_path):
    """A folder in which some other nameko is installed."""
    (tmp_path / "nameko").mkdir()
    (tmp_path / "nameko" / "__init__.py").write_text("real = True\n")
    return tmp_path


def test_a_real_nameko_that_is_imported_is_refused(real_nameko):
    said = python("import nameko; from zmqservices import compat; compat.install()", real_nameko, ok=False)

    assert said.splitlines()[-1].startswith("ImportError: the real nameko was imported already (from ")
    assert said.endswith("or use `zmqservices run --as-nameko`")


def test_a_real_nameko_that_is_only_installed_is_hidden_until_uninstall(real_nameko):
    assert python(
        """
        from zmqservices import compat
        compat.install()
        import nameko.rpc
        print(hasattr(nameko, "real"))
        compat.uninstall()
        import nameko, sys
        print(nameko.real, compat.is_installed(), "zmqservices.rpc" in sys.modules)
        """,
        real_nameko,
    ).split() == ["False", "True", "False", "True"]


def test_importing_compat_does_nothing(real_nameko):
    assert python("import zmqservices.compat, nameko; print(nameko.real)", real_nameko) == "True"


SERVICE = """
from nameko import config
from nameko.rpc import rpc

class Greeting:
    name = "greeting"

    @rpc
    def hello(self, who):
        return f"Hello, {who}!"
"""

TEST = """
from nameko.rpc import rpc
from nameko.standalone.rpc import ServiceRpcProxy
from nameko.testing.services import entrypoint_hook
from greeting import Greeting

def test_greeting(container_factory, rabbit_config):
    container_factory(Greeting, rabbit_config).start()
    with ServiceRpcProxy("greeting", rabbit_config) as greeting:
        assert greeting.hello("Ada") == "Hello, Ada!"
"""


@pytest.fixture
def application(tmp_path):
    """An application for Nameko, with its tests."""
    (tmp_path / "greeting.py").write_text(SERVICE)
    (tmp_path / "conftest.py").write_text("import nameko.rpc\n")
    (tmp_path / "test_greeting.py").write_text(TEST)
    return tmp_path


@pytest.mark.system
@pytest.mark.parametrize("command", [
    ["-m", "pytest", "-q", "--as-nameko"],
    ["-m", "zmqservices", "test", "--as-nameko", "-q"],
    ["-m", "pytest", "-q", "-o", "as_nameko=true", "--amqp-uri", "pyamqp://guest@localhost//",
     "--suppress-nameko-eventlet-notification"],
])  # fmt: skip
def test_its_tests_run_unchanged(application, command):
    done = subprocess.run(
        [sys.executable, *command, "-p", "no:cacheprovider"],
        cwd=application, env={"PATH": "", "HOME": str(application)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.system
def test_without_the_option_nameko_is_not_there(application):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=application, env={"PATH": "", "HOME": str(application)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert "No module named 'nameko'" in done.stdout + done.stderr
