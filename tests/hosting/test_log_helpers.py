"""Log lines with text from peers. No peer can forge a line."""

import io
import logging

import pytest

from zmqservices import log_helpers
from zmqservices.exceptions import RemoteError

FORGED = "order 7\n2026-01-01 00:00:00,000 INFO zmqservices.cluster.node: all is well\x1b[2J\r\u2028\x85"


@pytest.fixture
def written():
    """`written(name, *args)`: what a handler of this process writes of it."""
    before = logging.getLogRecordFactory()
    log_helpers.escape_what_others_sent()

    def write(name, *args, **kwargs):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(log_helpers.Formatter("%(levelname)s %(message)s"))
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        try:
            logger.error(*args, **kwargs)
        finally:
            logger.removeHandler(handler)
        return stream.getvalue()

    yield write
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("name", ["zmqservices.cluster.calls.server", "discovery.client.state"])
def test_text_from_a_peer_stays_on_its_line(written, name):
    line = written(name, "refused %s", FORGED)

    assert line.count("\n") == 1
    assert line.startswith("ERROR refused order 7\\n2026-01-01")
    assert line.endswith("well\\x1b[2J\\r\\u2028\\x85\n")


def test_the_text_of_an_error_begins_no_line(written):
    try:
        try:
            raise ValueError(FORGED)
        except ValueError as exc:
            raise RemoteError("ValueError", FORGED) from exc
    except RemoteError:
        text = written("zmqservices.hosting.lifecycle", "error handling worker", exc_info=True)

    assert not [line for line in text.splitlines() if line.startswith("2026-01-01")]
    assert "    2026-01-01 00:00:00,000 INFO" in text
    assert "\x1b" not in text
    assert "The above exception was the direct cause" in text


def test_lines_of_the_application_are_not_changed(written):
    assert written("shop.orders", "two\nlines") == "ERROR two\nlines\n"


def test_a_record_factory_of_the_application_stays(monkeypatch):
    class Own(logging.LogRecord):
        pass

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Own)
    try:
        log_helpers.escape_what_others_sent()
        assert logging.getLogRecordFactory() is Own
    finally:
        logging.setLogRecordFactory(before)


def test_an_answer_of_a_service_moves_no_cursor_of_the_command_line(capsys):
    from zmqservices.cli.main import complain

    complain("ValueError: two\nlines\x1b[2J\x07")

    assert capsys.readouterr().err == "Error: ValueError: two\nlines\\x1b[2J\\x07\n"
