"""`show-config`, `test`, `backdoor` and `shell`."""

import json
import signal

import pytest
import yaml

from zmqservices.cli.backdoor import backdoor_command, parse_target, setup_backdoor
from zmqservices.exceptions import CommandError, ConfigurationError

pytestmark = pytest.mark.system

# --- schema

SERVICE = """
    from zmqservices.rpc import rpc
    from zmqservices.web.handlers import http

    class Greeter:
        name = "greeter"

        @rpc
        def greet(self, who: str) -> str:
            "Say hello."

        @http("GET", "/hello/<who>")
        def hello(self, request, who) -> str:
            pass

    class Other:
        name = "other"

        @rpc
        def nothing(self):
            pass
"""


def test_the_documents_of_a_modules_services_are_printed(zmqservices, write):
    write("greeting.py", SERVICE)

    documents = list(yaml.safe_load_all(zmqservices("schema", "greeting").stdout))
    one = json.loads(zmqservices("schema", "greeting:Greeter", "--openapi", "--json").stdout)
    two = json.loads(zmqservices("schema", "greeting", "--asyncapi", "--json").stdout)

    assert [(each["info"]["title"], each.get("openapi"), each.get("asyncapi")) for each in documents] == [
        ("greeter", "3.1.0", None),
        ("greeter", None, "3.0.0"),
        ("other", None, "3.0.0"),
    ]
    assert one == documents[0]
    assert two == documents[1:]


def test_a_module_without_a_document_is_reported(zmqservices, write):
    write("greeting.py", SERVICE)

    done = zmqservices("schema", "greeting:Other", "--openapi")

    assert done.returncode == 2
    assert done.stderr == "Error: greeting:Other has no @http methods, so there is no such document\n"


# --- show-config


def test_the_settings_are_shown_with_variables_replaced(zmqservices, write):
    write("config.yaml", "DIRECTORY: ${WHERE:static:x=tcp://127.0.0.1:1}\nown: ${N:5}\n")

    done = zmqservices("show-config", "-d", "rpc_timeout=2.5", "--namespace", "shop", WHERE="tcp://10.0.0.5:4190")

    lines = done.stdout.splitlines()
    assert "DIRECTORY: tcp://10.0.0.5:4190  # config.yaml" in lines
    assert "NAMESPACE: shop  # --namespace" in lines
    assert "own: 5  # config.yaml" in lines
    assert "rpc_timeout: 2.5  # -d" in lines
    assert "max_workers: 10  # default" in lines
    assert yaml.safe_load(done.stdout)["drain_timeout"] == 30.0


def test_another_file_can_be_named(zmqservices, write):
    write("config.yaml", "own: 1\n")
    write("other.yaml", "own: 2\n")

    assert yaml.safe_load(zmqservices("show-config", "--config", "other.yaml").stdout)["own"] == 2


def test_without_a_file_the_environment_and_the_defaults_are_shown(zmqservices):
    done = zmqservices("show-config", ZMQSERVICES_NAMESPACE="outside")

    shown = yaml.safe_load(done.stdout)
    assert (shown["DIRECTORY"], shown["NAMESPACE"]) == ("local:", "outside")
    assert "NAMESPACE: outside  # environment, ZMQSERVICES_NAMESPACE" in done.stdout.splitlines()


def test_a_fault_in_the_file_is_reported(zmqservices, write):
    write("config.yaml", "a: [1\n")

    done = zmqservices("show-config")

    assert done.returncode == 2
    assert done.stderr.startswith("Error: config.yaml, line 2, column 1: ")


def test_typos_are_named(zmqservices):
    done = zmqservices("show-config", "-d", "rpc_timout=5")

    assert "did you mean 'rpc_timeout'?" in done.stderr
    assert done.returncode == 0


# --- test


def test_tests_run_patched_and_their_exit_code_is_passed_on(zmqservices, write):
    write(
        "test_something.py",
        """
        import socket
        from gevent import monkey

        def test_patched():
            assert monkey.is_object_patched("socket", "socket")

        def test_failing():
            assert False
        """,
    )

    passing = zmqservices("test", "test_something.py", "-q", "-k", "patched", "-p", "no:cacheprovider")
    failing = zmqservices("test", "-q", "test_something.py", "-p", "no:cacheprovider")

    assert (passing.returncode, failing.returncode) == (0, 1), passing.stdout + passing.stderr
    assert "1 passed" in passing.stdout


# --- backdoor


def test_a_running_process_can_be_inspected(start, zmqservices, ticker):
    process = start("run", "ticker_module", "--backdoor", "0")
    process.until("The backdoor lets every user of this host run code in this process")
    target = process.until("Backdoor on ").split()[-1]
    process.until("Services started")

    done = zmqservices("backdoor", target, input="print(sorted(runner.service_names))\n6 * 7\n")
    process.signal(signal.SIGTERM)

    assert done.returncode == 0, done.stderr
    assert "['ticker']" in done.stdout
    assert "42" in done.stdout
    assert process.end() == 0


def test_quitting_the_prompt_leaves_the_service_running(start, zmqservices, ticker):
    process = start("run", "ticker_module", "--backdoor", "0")
    target = process.until("Backdoor on ").split()[-1]
    process.until("Services started")

    for _ in range(2):
        assert zmqservices("backdoor", "--no-rlwrap", target, input="quit()\n").returncode == 0
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert "stopped\n" in process.said


def test_a_taken_port_is_reported(start, zmqservices, ticker):
    process = start("run", "ticker_module", "--backdoor", "0")
    port = process.until("Backdoor on ").strip().rpartition(":")[2]

    done = zmqservices("run", "ticker_module", "--backdoor-port", port)
    process.until("Services started")
    process.signal(signal.SIGTERM)

    assert done.returncode == 2
    assert f"the backdoor cannot listen on port {port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert process.end() == 0


def test_only_its_own_user_can_use_a_unix_socket(start, zmqservices, ticker, tmp_path):
    path = tmp_path / "private" / "backdoor"
    process = start("run", "ticker_module", "--backdoor-socket", str(path))
    process.until(f"Backdoor on {path}")
    process.until("Services started")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)

    done = zmqservices("backdoor", str(path), input="6 * 7\n")
    again = zmqservices("run", "ticker_module", "--backdoor-socket", str(path))
    process.signal(signal.SIGTERM)

    assert (done.returncode, "42" in done.stdout) == (0, True), done.stderr
    assert again.returncode == 2 and f"the backdoor cannot listen at {path}: Address already in use" in again.stderr
    assert process.end() == 0
    assert "every user of this host" not in process.said
    assert not path.exists()


def test_a_socket_in_a_folder_that_others_can_write_is_refused(tmp_path):
    tmp_path.chmod(0o755)

    with pytest.raises(ConfigurationError, match="other users can reach the folder .*; name .* or run `chmod 700"):
        setup_backdoor(None, str(tmp_path / "backdoor"))


def test_a_socket_that_a_killed_process_left_is_replaced(tmp_path):
    import socket

    tmp_path.chmod(0o700)
    path = str(tmp_path / "backdoor")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)

    setup_backdoor(None, path).stop(timeout=0)


def test_a_socket_without_a_process_is_reported(tmp_path):
    from click.testing import CliRunner

    done = CliRunner().invoke(backdoor_command, ["--no-rlwrap", str(tmp_path / "none")], standalone_mode=False)

    assert "nothing answers at" in str(done.exception) and "started with --backdoor-socket?" in str(done.exception)


def test_a_port_without_a_process_is_reported(zmqservices):
    done = zmqservices("backdoor", "1")

    assert done.returncode == 2
    assert "nothing answers at 127.0.0.1:1" in done.stderr


def test_targets():
    assert parse_target("3000") == ("127.0.0.1", 3000)
    assert parse_target("blue:3000") == ("blue", 3000)
    assert parse_target("[::1]:3000") == ("::1", 3000)
    for text in ["", "blue", "blue:", "0", "65536", "-1"]:
        with pytest.raises(CommandError, match="is no .HOST:.PORT"):
            parse_target(text)


# --- shell


def test_statements_from_a_pipe_are_run(zmqservices):
    done = zmqservices(
        *("shell", "--directory", "static:maths=tcp://127.0.0.1:1", "-d", "own=5"),
        input="print(n.config['own'])\nfor i in range(2):\n    print(i)\n\nprint(n)",
    )

    told = "<n: n.rpc.SERVICE.METHOD(...), n.dispatch_event(SERVICE, TYPE, DATA), n.config, n.disconnect()>"
    assert done.stdout == f"5\n0\n1\n{told}\n"
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("statements", "error"),
    [
        ("print('before')\n1 / 0\nprint('after')\n", "ZeroDivisionError: division by zero"),
        ("print('before')\ndef (:\nprint('after')\n", "SyntaxError"),
        ("print('before')\nn.rpc.maths.add(1, 2)\nprint('after')\n", "UnknownService"),
    ],
)
def test_the_first_error_ends_the_script_with_its_traceback(zmqservices, statements, error):
    done = zmqservices(
        *("shell", "--directory", "static:other=tcp://127.0.0.1:1", "-d", "rpc_wait_for_service=0"),
        input=statements,
    )

    assert done.stdout == "before\n"
    assert error in done.stderr
    assert done.returncode == 1


def test_a_script_can_choose_its_exit_code(zmqservices):
    assert zmqservices("shell", "--directory", "static:a=tcp://127.0.0.1:1", input="exit(7)\n").returncode == 7


def test_the_startup_file_is_run(zmqservices, write):
    path = write("startup.py", "here = 'from startup'\n")

    done = zmqservices(
        *("shell", "--interface", "plain", "--directory", "static:a=tcp://127.0.0.1:1"),
        input="print(here)\n",
        PYTHONSTARTUP=str(path),
    )

    assert done.stdout == "from startup\n"
