"""An error that keeps services from starting is one sentence with a documented exit code. A traceback is shown on request."""

import socket

import pytest

import discovery
from zmqservices.cli.failures import CouldNotStart, WronglyConfigured, sentence
from zmqservices.exceptions import ConfigurationError, JournalError

PUBLISHER = """
    from zmqservices.events import EventDispatcher
    from zmqservices.rpc import rpc
    from zmqservices.web.handlers import http

    class Orders:
        name = "orders"
        dispatch = EventDispatcher()

        @rpc
        def place(self):
            pass

    class Page:
        name = "page"

        @http("GET", "/")
        def show(self, request):
            return ""
"""

FAILING = """
    from zmqservices.extensions import DependencyProvider, Entrypoint

    class Database(DependencyProvider):
        def setup(self):
            raise LookupError("no such database")

    class Shop:
        name = "shop"
        database = Database()

        @Entrypoint.decorator
        def sell(self):
            pass
"""


def test_an_error_of_zmqservices_is_printed_unchanged():
    for error in (JournalError("the disk is full"), discovery.DirectoryError("no such scheme"), ConfigurationError("wrong")):
        assert sentence(error) == str(error)


def test_any_other_error_is_printed_with_its_class_and_place():
    try:
        raise LookupError("no such database")
    except LookupError as exc:
        said = sentence(exc)

    assert "LookupError: no such database (" in said
    assert "test_start_errors.py, line " in said
    assert "in test_any_other_error_is_printed_with_its_class_and_place); --traceback" in said


def test_a_traceback_is_shown_on_request_with_the_sentence_last(capsys):
    try:
        raise LookupError("no such database")
    except LookupError as exc:
        CouldNotStart(exc, with_traceback=False).show()
        short = capsys.readouterr().err
        WronglyConfigured(exc, with_traceback=True).show()
        long = capsys.readouterr().err

    assert "Traceback" not in short
    assert long.startswith("Traceback")
    assert long.endswith(short)
    assert (CouldNotStart.exit_code, WronglyConfigured.exit_code) == (1, 2)


@pytest.fixture
def taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


TWO_FAILING = FAILING + """
    class Stock:
        name = "stock"
        database = Database()

        @Entrypoint.decorator
        def count(self):
            pass
"""


@pytest.mark.system
def test_a_second_failing_service_gets_a_line_as_well(zmqservices, write):
    write("shop.py", TWO_FAILING.replace('"no such database"', 'f"none for {self.container.service_name}"'))

    short = zmqservices("run", "shop").stderr
    long = zmqservices("run", "shop", "--traceback").stderr

    (further,) = [line for line in short.splitlines() if "failed to start as well" in line]
    assert "LookupError: none for " in further and "shop.py, line" in further
    assert "Traceback" not in short and "killing" not in short
    assert long.count("Traceback") == 2


WEB_ALONE = ("orders:Page", "-d", "WEB_SERVER_ADDRESS=127.0.0.1:0")


@pytest.mark.system
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("orders:Orders", "-d", "rpc_timeout=abc"), "rpc_timeout is 'abc'; a number of seconds is needed, such as 30.0"),
        (("orders:Orders", "-d", "max_queued_calls=abc"), "max_queued_calls is 'abc'; a whole number is needed"),
        (("orders:Orders", "-d", "ANNOUNCE=abc"), "ANNOUNCE is 'abc'; true or false is needed"),
        ((*WEB_ALONE, "-d", "ANNOUNCE=abc"), "ANNOUNCE is 'abc'; true or false is needed"),
        ((*WEB_ALONE, "-d", "rpc_timeout=abc"), "rpc_timeout is 'abc'; a number of seconds is needed, such as 30.0"),
        (
            (*WEB_ALONE, "-d", "WEB_SERVER_HEADER_TIMEOUT=abc"),
            "WEB_SERVER_HEADER_TIMEOUT is 'abc'; a number of seconds is needed, such as 20.0",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_and_nothing_else(zmqservices, write, arguments, said):
    write("orders.py", PUBLISHER)

    done = zmqservices("run", *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: {said}\n")


@pytest.mark.system
def test_every_failure_of_a_start_is_one_sentence(zmqservices, write, tmp_path, taken_port):
    write("orders.py", PUBLISHER)
    write("shop.py", FAILING)
    write("file", "")
    write("broken.yaml", "a: [1")
    static = ("-d", "DIRECTORY=static:none=tcp://127.0.0.1:1", "-d", "events_wait_for_peers=0.01")
    cases = [
        (("orders:Orders", *static, "-d", "JOURNAL_FOLDER=file/journals"), 1, "no journal of 'orders' can be kept in"),
        (("orders:Orders", *static, "-d", f"BIND_ADDRESS=tcp://127.0.0.1:{taken_port}"), 2, "cannot bind"),
        (("orders:Page", "-d", f"WEB_SERVER_ADDRESS=127.0.0.1:{taken_port}"), 2, "it is taken"),
        (("orders:Orders", "--directory", "quic://10.0.0.5"), 2, "no backend opens 'quic:'"),
        (("orders:Page", "--directory", "quic://10.0.0.5"), 2, "no backend opens 'quic:'"),
        (("orders:Page", "-c", "broken.yaml"), 2, "broken.yaml, line"),
        (("orders:Page", "-c", "missing.yaml"), 2, "'missing.yaml' cannot be read"),
        (("shop",), 1, "LookupError: no such database ("),
    ]

    for arguments, code, said in cases:
        done = zmqservices("run", *arguments)
        told = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert (done.returncode, len(told)) == (code, 1), done.stderr
        assert said in told[0]
        assert "Traceback" not in done.stderr


@pytest.mark.system
def test_the_command_shows_a_traceback_on_request(zmqservices, write):
    write("shop.py", FAILING)

    done = zmqservices("run", "shop", "--traceback")

    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith("Error: the services could not start: LookupError")
