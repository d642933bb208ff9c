"""Log lines with the ids of calls; slow calls and where their time went; the access log; short tracebacks."""

import json
import logging

import gevent
import pytest

from zmqservices.exceptions import ConfigurationError
from zmqservices.observability.logs import AccessLog, JsonFormatter, SlowCalls, TextFormatter, formatter_of, logging_calls
from zmqservices.probes import attached
from zmqservices.rpc import RpcProxy, rpc

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
log = logging.getLogger("shop")


class Shop:
    name = "shop"

    @rpc
    def sell(self, number):
        log.info("sold %d", number)
        return number

    @rpc
    def fail(self):
        raise ValueError("no")


class Gateway:
    name = "gateway"
    stock = RpcProxy("stock")

    @rpc
    def order(self):
        self.stock.take()


class Stock:
    name = "stock"

    @rpc
    def take(self):
        gevent.sleep(0.2)


class Lines(logging.Handler):
    """The lines that a formatter makes, as they are logged."""

    def __init__(self, formatter):
        super().__init__()
        self.setFormatter(formatter)
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def lines():
    """`lines(formatter, "zmqservices.access")`: the list of lines that are logged there."""
    handlers = []

    def start(formatter, name, level=logging.INFO):
        logger, handler = logging.getLogger(name), Lines(formatter)
        handlers.append((logger, handler, logger.level))
        logger.addHandler(handler)
        logger.setLevel(level)
        return handler.lines

    yield start
    for logger, handler, level in handlers:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_a_line_of_a_method_has_the_ids_of_its_call(serve, connect, lines):
    container = serve(Shop)
    found = lines(JsonFormatter(), "shop")

    connect({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}).shop.sell(7)

    (line,) = map(json.loads, found)
    assert line["message"] == "sold 7"
    assert (line["level"], line["logger"], line["service"]) == ("INFO", "shop", "shop")
    assert line["instance"] == container.instance_id
    assert line["trace_id"] == TRACE
    assert line["call_id"].startswith("shop.sell.")
    assert line["time"].endswith("Z")


def test_a_line_of_text_ends_with_the_ids_that_it_does_not_have_yet(serve, connect, lines):
    serve(Shop)
    found, failed = lines(TextFormatter("%(message)s"), "shop"), lines(TextFormatter("%(message)s"), "zmqservices.hosting")
    cluster = connect({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})

    cluster.shop.sell(7)
    with pytest.raises(Exception, match="no"):
        connect().shop.fail()

    (line,) = found
    assert line.startswith("sold 7 [call_id=shop.sell.") and line.endswith(f" trace_id={TRACE}]")
    assert "call_id=" not in failed[0].splitlines()[0]
    assert "shop.fail." in failed[0].splitlines()[0]


def test_outside_of_calls_a_line_has_no_ids(lines):
    found = lines(JsonFormatter(process="2"), "shop")

    log.warning("hello %s", "world", extra={"colour": "red", "odd": object()})

    (line,) = map(json.loads, found)
    assert (line["message"], line["colour"], line["process"]) == ("hello world", "red", "2")
    assert "call_id" not in line
    assert line["odd"].startswith("<object")


def test_an_exception_is_part_of_the_json_line(lines):
    found = lines(JsonFormatter(), "shop")

    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed")

    (line,) = found
    assert "\n" not in line
    exception = json.loads(line)["exception"]
    assert (exception["type"], exception["message"]) == ("ValueError", "two\nlines")
    assert "test_logs.py" in exception["stacktrace"]


@pytest.mark.parametrize(("full", "shown"), [(False, False), (True, True)])
def test_frames_of_this_package_are_left_out_of_tracebacks_unless_asked_for(serve, connect, lines, full, shown):
    serve(Shop)
    found = lines(TextFormatter("%(message)s", full=full), "zmqservices.hosting.lifecycle")

    with pytest.raises(Exception, match="no"):
        connect().shop.fail()

    (text,) = found
    assert ("lifecycle.py" in text) is shown
    assert 'raise ValueError("no")' in text


def test_a_slow_call_says_where_the_time_went(serve, connect, lines):
    serve(Gateway, max_workers=1)
    serve(Stock)
    found = lines(JsonFormatter(), "zmqservices.slow")

    with attached(SlowCalls(0.35)):
        gateway = connect().gateway
        calls = [gateway.order.call_async() for _ in range(2)]
        [call.result() for call in calls]

    (line,) = map(json.loads, found)
    # The second one waited for the first.
    assert line["call_id"].startswith("gateway.order.")
    assert line["queued_seconds"] >= 0.15
    assert line["run_seconds"] >= line["waited_seconds"] >= 0.2
    assert line["seconds"] == pytest.approx(line["queued_seconds"] + line["run_seconds"], abs=0.001)
    assert " in the queue, " in line["message"] and "waiting for replies (stock.take 0.2" in line["message"]


def test_the_access_log_has_a_line_for_each_call(serve, connect, lines):
    serve(Shop)
    found = lines(JsonFormatter(), "zmqservices.access")

    with attached(AccessLog()):
        shop = connect().shop
        shop.sell(1)
        with pytest.raises(Exception, match="no"):
            shop.fail()
        with pytest.raises(Exception, match="nothing"):
            shop.nothing()

    sold, failed, refused = map(json.loads, found)
    assert (sold["method"], sold["outcome"]) == ("shop.sell", "ok")
    assert sold["call_id"].startswith("shop.sell.")
    assert sold["called_by"].startswith("standalone_rpc_proxy.call.")
    assert 0 < sold["run_seconds"] < 10
    assert (failed["method"], failed["outcome"]) == ("shop.fail", "ValueError")
    assert (refused["method"], refused["outcome"]) == ("shop.nothing", "unknown-method")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT is 'xml'; 'text' or 'json' is needed"),
        ({"LOG_TRACEBACKS": "none"}, "LOG_TRACEBACKS is 'none'; 'short' or 'full' is needed"),
    ],
)
def test_a_wrong_format_is_quoted(settings, text):
    with pytest.raises(ConfigurationError, match=text):
        formatter_of(settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"slow_call_threshold": "soon"}, "slow_call_threshold is 'soon'"), ({"ACCESS_LOG": 7}, "ACCESS_LOG is 7; true or false")],
)
def test_a_wrong_setting_is_quoted(settings, text):
    with pytest.raises(ConfigurationError, match=text), logging_calls(settings):
        pass
