"""Helpers of extensions and tools: redaction (semantic 58), retries, parallel calls, logged durations."""

import collections
import json
import logging
import os.path
import re

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Pool

import zmqservices.utils
from tests.hosting.stage import Entry, entrypoint_of
from zmqservices.containers import ServiceContainer
from zmqservices.log_helpers import make_timing_logger
from zmqservices.utils import REDACTED, get_redacted_args, import_from_path, sanitize_url
from zmqservices.utils.concurrency import SpawningProxy, SpawningSet, fail_fast_imap
from zmqservices.utils.retry import retry


@pytest.mark.parametrize(
    ("sensitive", "expected"),
    [
        ((), {"a": "secret", "b": {"foo": ["secret", "bar"]}}),
        ("a", {"a": REDACTED, "b": {"foo": ["secret", "bar"]}}),
        (("a", "b"), {"a": REDACTED, "b": REDACTED}),
        (("b.foo",), {"a": "secret", "b": {"foo": REDACTED}}),
        (("b.foo[0]",), {"a": "secret", "b": {"foo": [REDACTED, "bar"]}}),
        (("b[foo][1]",), {"a": "secret", "b": {"foo": ["secret", REDACTED]}}),
        (("b.foo[9]", "b.bar", "c", "a.x", "b.foo.x"), {"a": "secret", "b": {"foo": ["secret", "bar"]}}),
    ],
)
def test_58_sensitive_values_are_replaced_in_a_deep_copy(sensitive, expected):
    class Service:
        name = "service"

        @Entry.decorator(sensitive_arguments=sensitive)
        def run(self, a, b): ...

    container = ServiceContainer(Service, {})
    b = {"foo": ["secret", "bar"]}

    redacted = get_redacted_args(entrypoint_of(container, "run"), "secret", b=b)

    assert redacted == expected
    assert b == {"foo": ["secret", "bar"]}


def test_58_static_methods_have_no_self_to_leave_out():
    class Service:
        name = "service"

        @staticmethod
        @Entry.decorator(sensitive_arguments="a")
        def run(a): ...

    container = ServiceContainer(Service, {})

    assert get_redacted_args(entrypoint_of(container, "run"), "secret") == {"a": REDACTED}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("tcp://10.0.0.5:4190", "tcp://10.0.0.5:4190"),
        ("etcd://user@host:2379/path?x=1", "etcd://user@host:2379/path?x=1"),
        ("etcd://user:secret@host:2379/path?x=1", "etcd://user:********@host:2379/path?x=1"),
        ("etcd://:secret@host", "etcd://:********@host"),
        ("local:", "local:"),
    ],
)
def test_passwords_in_urls_are_not_shown(url, shown):
    assert sanitize_url(url) == shown


def test_a_dotted_path_is_imported():
    assert import_from_path("zmqservices.utils.REDACTED") is REDACTED
    assert import_from_path(None) is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("dict", dict),
        ("dict.fromkeys", dict.fromkeys),
        ("collections.OrderedDict.fromkeys", collections.OrderedDict.fromkeys),
        ("os.path", os.path),
        ("zmqservices.utils", zmqservices.utils),
        ("json.decoder.JSONDecoder.decode", json.decoder.JSONDecoder.decode),
    ],
)
def test_a_path_may_lead_to_a_module_into_a_class_or_to_a_builtin(path, found):
    assert import_from_path(path) == found


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a b", "collections.OrderedDict.nothing", "collections.nothing.more"])
def test_an_invalid_path_and_a_missing_attribute_are_quoted(path):
    with pytest.raises(ImportError, match=re.escape(repr(path))):
        import_from_path(path)


def test_a_module_that_cannot_import_something_else_says_so(tmp_path, monkeypatch):
    (tmp_path / "broken_inside_it.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        import_from_path("broken_inside_it.Name")


@pytest.mark.parametrize("path", ["nothing", "zmqservices.utils.nothing", "no.such.module"])
def test_a_path_that_leads_nowhere_is_an_import_error(path):
    with pytest.raises(ImportError, match=path.split(".")[0]):
        import_from_path(path)


class Flaky:
    def __init__(self, failures, error=ValueError):
        self.calls, self.failures, self.error = 0, failures, error

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(self.calls)
        return args, kwargs


@pytest.fixture
def pauses(monkeypatch):
    made = []
    monkeypatch.setattr("zmqservices.utils.retry.sleep", made.append)
    return made


def test_retry_runs_once_and_max_attempts_times_more(pauses):
    flaky = Flaky(failures=100)

    with pytest.raises(ValueError, match="4"):
        retry(max_attempts=3)(flaky.__call__)()

    assert flaky.calls == 4
    assert pauses == [1, 1, 1]


def test_retry_gives_the_first_success(pauses):
    flaky = Flaky(failures=2)

    assert retry(flaky.__call__)(1, a=2) == ((1,), {"a": 2})
    assert flaky.calls == 3


def test_pauses_grow_up_to_a_bound(pauses):
    with pytest.raises(ValueError):
        retry(max_attempts=5, delay=1, backoff=2, max_delay=5)(Flaky(100).__call__)()

    assert pauses == [1, 2, 4, 5, 5]


def test_retry_may_go_on_for_ever(pauses):
    retry(max_attempts=None)(Flaky(500).__call__)()

    assert len(pauses) == 500


def test_other_errors_are_not_retried(pauses):
    flaky = Flaky(1, KeyError)

    with pytest.raises(KeyError):
        retry((ValueError, TypeError))(flaky.__call__)()

    assert flaky.calls == 1


def test_calls_run_in_parallel_and_give_their_results_in_order():
    met = [Event(), Event()]

    class Item:
        def __init__(self, number):
            self.number = number

        def meet(self, what):
            met[self.number].set()
            assert met[1 - self.number].wait(30)
            return self.number, what

    assert SpawningProxy([Item(0), Item(1)]).meet("there") == [(0, "there"), (1, "there")]
    assert SpawningProxy([]).anything() == []
    assert sorted(SpawningSet([Item(0), Item(1)]).all.meet("again")) == [(0, "again"), (1, "again")]


class Ends:
    def __init__(self, error=None, waits_for=None, lets_go=None):
        self.error, self.waits_for, self.lets_go = error, waits_for, lets_go
        self.is_over = self.was_killed = False

    def end(self):
        try:
            if self.waits_for is not None:
                self.waits_for.wait(30)
        except gevent.GreenletExit:
            self.was_killed = True
            raise
        self.is_over = True
        if self.lets_go is not None:
            self.lets_go.set()
        if self.error is not None:
            raise self.error


def test_an_error_is_raised_once_all_calls_have_ended(caplog):
    may_end = Event()
    slow = Ends(ValueError("the second"), may_end)
    quick = Ends(ValueError("the first"), lets_go=may_end)

    with pytest.raises(ValueError, match="the first"):
        SpawningProxy([slow, quick]).end()

    assert slow.is_over
    assert "the second" in caplog.text


def test_an_error_that_aborts_kills_the_others_and_is_raised_at_once():
    slow = Ends(waits_for=Event())

    with pytest.raises(ValueError, match="the first"):
        SpawningProxy([slow, Ends(ValueError("the first"))], abort_on_error=True).end()

    assert slow.was_killed


def test_results_of_a_pool_come_in_order():
    assert list(fail_fast_imap(Pool(3), lambda number: number * 2, [1, 2, 3])) == [2, 4, 6]


def test_durations_are_logged(caplog):
    logger = logging.getLogger("timed")
    log_time = make_timing_logger(logger, precision=1, level=logging.INFO)

    with caplog.at_level(logging.INFO, "timed"):
        with log_time("hello %s", "world"):
            pass
        with pytest.raises(ValueError), log_time("failing"):
            raise ValueError

    assert [record.getMessage() for record in caplog.records] == ["hello world in 0.0s", "failing in 0.0s"]
