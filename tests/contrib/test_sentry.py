"""Reports to Sentry, taken by a transport of the tests' own."""

import logging

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from zmqservices.contrib.sentry import SentryReporter
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider
from zmqservices.testing.services import dummy, entrypoint_hook, worker_factory


class Reports(Transport):
    """Keeps what would have been sent."""

    def __init__(self):
        super().__init__()
        self.events = []
        self.is_flushed = False

    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)

    def flush(self, timeout, callback=None):
        self.is_flushed = True


class OutOfStock(Exception):
    pass


def service(reports, **options):
    class Orders:
        name = "orders"
        sentry = SentryReporter(transport=reports, dsn="https://key@127.0.0.1/1", **options)

        @dummy(expected_exceptions=OutOfStock, sensitive_arguments="card.number")
        def place(self, item, card=None):
            self.sentry.set_tag("item", item)
            sentry_sdk.add_breadcrumb(message=f"looked for {item}")
            if item == "tea":
                raise OutOfStock("no tea")
            if item == "milk":
                raise ValueError("sour")
            if item == "word":
                sentry_sdk.capture_message("a word")
            return item

    return Orders


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def place(container_factory, reports):
    container = container_factory(service(reports), {})
    container.start()
    with entrypoint_hook(container, "place", {"user_id": 7}) as place:
        yield place


def test_an_error_is_reported_with_what_is_known_of_the_call(place, reports):
    with pytest.raises(ValueError):
        place("milk", card={"number": "1234", "holder": "Ada"})

    (event,) = reports.events
    assert event["exception"]["values"][-1]["type"] == "ValueError"
    assert event["level"] == "error"
    assert event["transaction"] == "orders.place"
    assert event["user"] == {"id": "7"}
    assert event["tags"]["service"] == "orders"
    assert event["tags"]["method"] == "place"
    assert event["tags"]["item"] == "milk"
    assert event["tags"]["call_id"].startswith("orders.place.")
    assert event["contexts"]["call"]["arguments"]["card"] == {"number": "********", "holder": "Ada"}
    assert [crumb["message"] for crumb in event["breadcrumbs"]["values"]] == ["looked for milk"]


def test_an_expected_error_is_a_warning(place, reports):
    with pytest.raises(OutOfStock):
        place("tea")

    assert [event["level"] for event in reports.events] == ["warning"]


def test_expected_errors_may_be_left_out(container_factory, reports):
    container = container_factory(service(reports, report_expected=False), {})
    container.start()

    with entrypoint_hook(container, "place") as place, pytest.raises(OutOfStock):
        place("tea")

    assert reports.events == []


def test_calls_without_errors_report_nothing_and_leave_nothing_behind(place, reports):
    assert place("coffee") == "coffee"
    with pytest.raises(ValueError):
        place("milk")

    (event,) = reports.events
    assert [crumb["message"] for crumb in event["breadcrumbs"]["values"]] == ["looked for milk"]


def test_sentrys_own_functions_report_for_the_call(place, reports):
    place("word")

    (event,) = reports.events
    assert event["message"] == "a word"
    assert event["tags"]["item"] == "word"


def test_outside_of_calls_nothing_is_reported_to_it(place, reports):
    place("coffee")
    sentry_sdk.capture_message("from elsewhere")

    assert reports.events == []


def test_an_error_is_reported_once_and_logging_is_as_it_was(place, reports, caplog):
    handlers, before = list(logging.getLogger().handlers), logging.Logger.callHandlers

    with pytest.raises(ValueError):
        place("milk")

    assert len(reports.events) == 1
    assert logging.getLogger().handlers == handlers
    assert logging.Logger.callHandlers is before


def test_an_error_of_another_provider_is_reported(container_factory, reports):
    class Broken(DependencyProvider):
        def get_dependency(self, worker_ctx):
            raise RuntimeError("no connection")

    class Orders(service(reports)):
        # After `sentry`, in the order of the names.
        tea = Broken()

    container = container_factory(Orders, {})
    container.start()

    with entrypoint_hook(container, "place") as place, pytest.raises(RuntimeError):
        place("coffee")

    assert [event["exception"]["values"][-1]["type"] for event in reports.events] == ["RuntimeError"]


def test_what_was_not_sent_is_sent_at_the_end(container_factory, reports):
    container = container_factory(service(reports), {})
    container.start()

    container.stop()

    assert reports.is_flushed


def test_options_come_from_the_settings(container_factory, reports):
    container = container_factory(service(reports), {"SENTRY": {"environment": "test", "release": "1.2"}})
    container.start()

    with entrypoint_hook(container, "place") as place, pytest.raises(ValueError):
        place("milk")

    assert (reports.events[0]["environment"], reports.events[0]["release"]) == ("test", "1.2")


@pytest.mark.parametrize("settings, said", [
    ("https://key@sentry.example/1", "SENTRY is 'https://key@sentry.example/1'; a mapping"),
    ({"environmental": "test"}, "SENTRY has options that Sentry refuses: .*environmental"),
])  # fmt: skip
def test_settings_that_make_no_sense(container_factory, reports, settings, said):
    with pytest.raises(ConfigurationError, match=said):
        container_factory(service(reports), {"SENTRY": settings}).start()


def test_without_a_dsn_nothing_is_sent(container_factory):
    class Orders:
        name = "orders"
        sentry = SentryReporter()

        @dummy
        def fail(self):
            raise ValueError

    container = container_factory(Orders, {})
    container.start()

    with entrypoint_hook(container, "fail") as fail, pytest.raises(ValueError):
        fail()


def test_a_unit_test_needs_no_sentry(reports):
    assert worker_factory(service(reports)).place("coffee") == "coffee"
