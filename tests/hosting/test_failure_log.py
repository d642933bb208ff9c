"""The log line of a failed call: the call, its caller and its arguments, without addresses of objects."""

import logging

import pytest

from tests.hosting.stage import entry, entrypoint_of
from zmqservices.constants import CALL_ID_STACK_CONTEXT_KEY
from zmqservices.testing.services import entrypoint_hook


class Thing:
    pass


class Service:
    name = "service"

    @entry(sensitive_arguments=("card.number", "password"))
    def pay(self, card, password="none"):
        raise ValueError("declined")

    @entry(expected_exceptions=KeyError)
    def find(self, key, **rest):
        raise KeyError(key)


def logged(make_container, caplog, method, args=(), kwargs=None, data=None, level=logging.INFO):
    container = make_container(Service)
    with caplog.at_level(level), entrypoint_hook(container, method, context_data=data) as hook:
        with pytest.raises(Exception):
            hook(*args, **(kwargs or {}))
    (record,) = [record for record in caplog.records if record.name == "zmqservices.hosting.lifecycle"]
    return record


def test_a_failure_names_the_call_its_caller_and_the_redacted_arguments(make_container, caplog):
    data = {CALL_ID_STACK_CONTEXT_KEY: ["web.index.1"]}

    record = logged(make_container, caplog, "pay", [{"number": 4111, "name": "Ann"}], {"password": "secret"}, data)
    text = record.getMessage()

    assert text.startswith("error handling worker of service.pay.")
    assert ", called by web.index.1, with card={" in text
    assert "'name': 'Ann'" in text
    assert text.endswith("password='********': ValueError: declined")
    assert "4111" not in text and "secret" not in text and "0x" not in text
    assert record.exc_info


def test_an_expected_error_is_one_line(make_container, caplog):
    record = logged(make_container, caplog, "find", [7])

    assert record.levelname == "WARNING"
    assert record.getMessage().endswith(" with key=7, rest={}: KeyError: 7")
    assert record.exc_info is None


def test_the_traceback_of_an_expected_error_is_shown_at_level_debug(make_container, caplog):
    assert logged(make_container, caplog, "find", [7], level=logging.DEBUG).exc_info


def test_large_values_and_objects_are_cut_and_have_no_address(make_container, caplog):
    text = logged(make_container, caplog, "find", [Thing()], {"blob": b"x" * 1000, "long": "y" * 9999}).getMessage()

    assert "Thing>" in text and "0x" not in text.partition(": KeyError")[0]
    assert "<1,000 bytes>" in text
    assert len(text) < 900


def test_arguments_that_cannot_be_redacted_are_not_shown(make_container, caplog):
    text = logged(make_container, caplog, "pay", [1, 2, 3]).getMessage()

    assert "with arguments that cannot be shown: TypeError" in text
    assert entrypoint_of(make_container(Service, start=False), "pay").sensitive_arguments
