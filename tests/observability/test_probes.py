"""What probes hear of calls, events, links, instances, drains and HTTP requests, in a real cluster."""

import ast
import logging
from pathlib import Path
from time import monotonic

import gevent
import pytest
from gevent.event import Event

from tests.observability.stage import Notes
from tests.web.stage import Web
from zmqservices import probes
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import ConfigurationError, MessageTooLarge, RemoteError, RpcTimeout, UnknownService
from zmqservices.observability.statistics import Statistics
from zmqservices.probes import Probe, attached
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.runners import run_services
from zmqservices.web.handlers import http


class Maths:
    name = "maths"

    @rpc
    def double(self, number):
        return number * 2

    @rpc
    def fail(self):
        raise ValueError("no")

    @rpc
    def wait(self):
        gevent.sleep(5)


# --- calls -----------------------------------------------------------------------------------------------------------


def test_an_outgoing_call_is_told_at_its_begin_and_at_its_end(serve, connect, notes):
    serve(Maths)
    before = monotonic()

    assert connect().maths.double(2) == 4

    (began,), (ended,) = notes.of("call_began"), notes.of("call_ended")
    assert began == ended
    (call,) = ended
    assert (call.service, call.method, call.error) == ("maths", "double", None)
    assert call.sent_at >= before


def test_at_its_end_a_call_says_how_long_it_took(serve, connect):
    seen = []

    class Timing(Probe):
        def call_ended(self, call):
            seen.append((call.began_at, monotonic()))

    serve(Maths)
    before = monotonic()

    with attached(Timing()):
        connect().maths.double(2)

    ((began, ended),) = seen
    assert before <= began <= ended


class Choosy(Probe):
    """Wants to hear of the end of every second call, and of the worker that runs it."""

    def __init__(self):
        self.awaited_calls, self.awaited_workers = set(), set()
        self.began = {"call": 0, "worker": 0}
        self.ended = []
        self.worker_is_over = Event()

    def _note(self, kind, each, awaited):
        self.began[kind] += 1
        if self.began[kind] % 2:
            awaited.add(each)

    def call_began(self, call):
        self._note("call", call, self.awaited_calls)

    def worker_started(self, worker_ctx):
        self._note("worker", worker_ctx, self.awaited_workers)

    def call_ended(self, call):
        self.ended.append(("call", call in self.awaited_calls))
        self.awaited_calls.discard(call)

    def worker_ended(self, worker_ctx, result, exc_info):
        self.ended.append(("worker", worker_ctx in self.awaited_workers))
        self.awaited_workers.discard(worker_ctx)
        if self.began["worker"] == 3:
            self.worker_is_over.set()


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_probe_is_told_of_the_ends_that_it_awaits_and_beside_others_of_all(is_alone, serve, connect, request):
    serve(Maths)
    maths, choosy = connect().maths, Choosy()
    if not is_alone:
        request.getfixturevalue("notes")

    with attached(choosy):
        for number in range(3):
            maths.double(number)
        assert choosy.worker_is_over.wait(10)

    awaited = [True, True] if is_alone else [True, False, True]
    for kind in ("call", "worker"):
        assert [was_awaited for ended, was_awaited in choosy.ended if ended == kind] == awaited


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda cluster: cluster.maths.fail(), RemoteError),
        (lambda cluster: cluster.maths.wait.with_timeout(0.1)(), RpcTimeout),
        (lambda cluster: cluster.maths.double(b"x" * 10_000), MessageTooLarge),
        (lambda cluster: cluster.nowhere.double.with_timeout(0.1)(), UnknownService),
    ],
)
def test_a_call_that_fails_is_told_once_with_its_error(serve, connect, notes, call, error):
    serve(Maths)
    cluster = connect(max_message_size=5000)
    cluster.maths.double(2)
    notes.seen.clear()

    with pytest.raises((error, ValueError)):
        call(cluster)

    ((ended,),) = notes.of("call_ended")
    assert ended.error is not None
    assert len(notes.of("call_began")) == 1


def test_a_probe_may_add_to_the_context_of_a_call(serve, connect):
    seen = []

    class Baggage(Probe):
        def call_began(self, call):
            call.headers["baggage"] = "user=7"

        def worker_started(self, worker_ctx):
            seen.append(worker_ctx.data["baggage"])

    serve(Maths)

    with attached(Baggage()):
        connect().maths.double(2)

    assert seen == ["user=7"]


def test_a_probe_knows_how_long_a_call_waited_for_a_worker(serve, connect, notes):
    serve(Maths, max_workers=1)
    cluster = connect()

    calls = [cluster.maths.double.call_async(number) for number in range(3)]
    assert [call.result() for call in calls] == [0, 2, 4]

    contexts = [worker_ctx for (worker_ctx,) in notes.wait("worker_started", 3)]
    assert all(0 < context.queued_at <= context.started_at for context in contexts)


@pytest.mark.parametrize(
    ("call", "refused"),
    [
        (lambda cluster: cluster.maths.tripel(2), ("maths", "tripel", "unknown-method")),
        (lambda cluster: cluster.maths.double(2, 3), ("maths", "double", "bad-arguments")),
    ],
)
def test_a_refused_call_is_told_with_the_reason(serve, connect, notes, call, refused):
    serve(Maths)

    with pytest.raises(Exception, match="tripel|double|arguments"):
        call(connect())

    assert notes.of("call_refused") == [refused]


def test_an_overloaded_service_tells_what_it_refuses(serve, connect, notes):
    serve(Maths, max_workers=1, max_queued_calls=1)
    cluster = connect()

    calls = [cluster.maths.wait.with_timeout(1).call_async() for _ in range(4)]

    assert ("maths", "wait", "overloaded") in notes.wait("call_refused", 1)
    for call in calls:
        call.cancel()


# --- events ----------------------------------------------------------------------------------------------------------


class Orders:
    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def place(self, number):
        self.dispatch("placed", number)


class Mails:
    name = "mails"
    failures = 1

    @event_handler("orders", "placed", requeue_on_error=True, max_deliveries=2)
    def send(self, number):
        if number == "bad":
            raise ValueError("no such address")


def test_an_event_is_told_from_its_dispatch_to_its_answer(serve, connect, notes):
    serve(Orders)
    serve(Mails)

    connect().orders.place(1)

    ((source, type, group, attempt),) = notes.wait("event_delivered")
    assert (source, type, attempt) == ("orders", "placed", 1)
    assert notes.wait("event_acked") == [("orders", group)]
    ((source, type, seconds, exc),) = notes.of("event_dispatched")
    assert (source, type, exc) == ("orders", "placed", None)
    assert 0 < seconds < 10
    assert [args[:2] for args in notes.of("event_began")] == [("orders", "placed")]


def test_an_event_that_fails_is_told_until_it_is_a_dead_letter(serve, connect, notes):
    serve(Orders)
    serve(Mails)

    connect().orders.place("bad")

    ((source, type, group, attempts, error),) = notes.wait("event_dead")
    assert (source, type, attempts, error["exc_type"]) == ("orders", "placed", 2, "ValueError")
    assert [args[:2] for args in notes.of("event_failed")] == [("orders", group)] * 2


def test_a_probe_may_add_to_the_headers_of_an_event(serve, connect):
    seen, handled = [], Event()

    class Baggage(Probe):
        def event_began(self, source, type, headers):
            headers["baggage"] = "user=7"

        def worker_result(self, worker_ctx, result, exc_info):
            if worker_ctx.event is not None:
                seen.append(worker_ctx.data["baggage"])
                handled.set()

    serve(Orders)
    serve(Mails)

    with attached(Baggage()):
        connect().orders.place(1)
        assert handled.wait(30)

    assert seen == ["user=7"]


# --- the cluster -----------------------------------------------------------------------------------------------------


def test_links_instances_and_drains_are_told(serve, connect, notes):
    container = serve(Maths)
    instance = container.instance_id
    connect().maths.double(2)

    container.stop()

    assert ("maths", instance, "UP") in notes.of("instance_listed")
    ((node, endpoint),) = notes.of("link_up")
    assert notes.wait("link_lost") == [(node, endpoint)]
    assert [args[:2] for args in notes.wait("instance_unlisted")] == [("maths", instance)]
    assert notes.of("drain_began") == [("maths", instance)]
    ((service, drained, seconds, is_complete),) = notes.of("drain_ended")
    assert (service, drained, is_complete) == ("maths", instance, True)
    assert 0 <= seconds < 5
    assert [args[2] for args in notes.of("record_announced")] == ["UP", "DRAINING"]
    assert notes.of("record_withdrawn") == [("maths", instance)]
    assert notes.of("service_started") == notes.of("service_stopped") == [("maths", instance)]


def test_a_service_alone_is_told_too_and_its_requests_with_their_routes(notes, serve):
    class Shop:
        name = "shop"

        @http("GET", "/orders/<int:number>")
        def order(self, request, number):
            return str(number)

    web = Web(serve(Shop, WEB_SERVER_ADDRESS="127.0.0.1:0"))
    web.get("/orders/7")
    web.get("/nothing/here")

    answered = notes.wait("http_answered", 2)
    assert [args[:4] for args in answered] == [("shop", "GET", "/orders/<int:number>", 200), ("shop", "GET", None, 404)]
    assert all(0 < args[4] < 10 for args in answered)
    web.close()


def test_everything_in_the_process_can_be_measured(serve, connect):
    class Ordering:
        name = "ordering"
        dispatch = EventDispatcher()
        maths = RpcProxy("maths")

        @rpc
        def order(self):
            self.dispatch("placed", self.maths.double(2))

    serve(Maths)
    serve(Ordering)
    connect().ordering.order()

    measured = {(measure.name, measure.labels.get("service") or measure.labels.get("state")) for measure in probes.measures()}

    assert {
        ("workers_running", "maths"), ("workers_max", "ordering"), ("calls_queued", "maths"), ("calls_in_flight", None),
        ("calls_held", None), ("links", "up"), ("links", "suspect"), ("directory_fresh", None), ("directory_records", "up"),
        ("clients", None), ("send_queue_bytes", None), ("journal_events", None), ("journal_bytes", None),
    } <= measured  # fmt: skip


def test_what_has_stopped_is_not_measured_any_more(serve):
    container = serve(Maths)
    instance = container.instance_id
    assert any(measure.labels.get("instance") == instance for measure in probes.measures())

    container.stop()

    assert not any(measure.labels.get("instance") == instance for measure in probes.measures())


# --- probes that fail, and probes of the configuration -----------------------------------------------------------------


def test_a_probe_that_raises_is_logged_once_for_each_hook_and_never_felt(serve, connect, caplog):
    def fail(*args):
        raise RuntimeError("a broken probe")

    broken = Probe()
    for name in probes.HOOKS:
        setattr(broken, name, fail)
    with attached(broken), caplog.at_level(logging.ERROR, "zmqservices.probes"):
        serve(Orders)
        serve(Mails)
        cluster = connect()
        for number in range(5):
            cluster.orders.place(number)

    told = [record.message for record in caplog.records if record.name == "zmqservices.probes"]
    assert len(told) == len(set(told)) >= 8
    assert all(text.startswith("ignored an error of") and "more of them will not be logged" in text for text in told)


def test_a_hook_that_guards_itself_is_called_without_a_wrapper_and_passes_on_the_end_of_its_worker():
    class Ending(Probe):
        error = KeyError("ignored")

        @probes.guards_itself
        def call_began(self, call):
            try:
                raise self.error
            except BaseException as exc:
                probes.ignore(exc, self, "call_began")

    probe = Ending()
    points = probes.ProbePoints([probe])

    assert points.call_began == probe.call_began
    points.call_began(None)
    probe.error = gevent.GreenletExit()
    with pytest.raises(gevent.GreenletExit):
        points.call_began(None)


def test_an_error_of_the_counts_is_logged_once_for_each_hook_and_never_felt(serve, connect, caplog):
    statistics = Statistics()
    statistics.workers = statistics.calls = None
    serve(Maths)
    with attached(statistics):
        maths = connect().maths
        assert [maths.double(number) for number in range(3)] == [0, 2, 4]

    assert caplog.text.count("ignored an error of") == 2


def test_two_probes_hear_the_same(serve, connect, notes):
    others = Notes()
    serve(Maths)

    with attached(others):
        connect().maths.double(2)
        others.wait("worker_ended")

    assert others.of("call_ended") == notes.of("call_ended")


def test_nothing_is_there_to_be_asked_while_nobody_listens(serve, connect):
    container = serve(Maths)
    connect().maths.double(2)

    assert container.probes is None


def test_the_setting_probes_attaches_one_for_the_process(cluster_config, connect):
    settings = {**cluster_config, "PROBES": ["tests.observability.stage.Notes"]}

    class Words:
        name = "words"

        @rpc
        def upper(self, word):
            return word.upper()

    with run_services(settings, Maths) as one, run_services(settings, Words):
        (container,) = one.containers
        assert container.probes is not None
        (notes,) = [probe for probe in probes._attached if type(probe).__name__ == "Notes"]
        connect().words.upper("a")
        notes.wait("worker_ended")

    assert not probes._attached


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nowhere.Probe", "PROBES names 'nowhere.Probe'; a subclass of zmqservices.probes.Probe is needed"),
        (["builtins.dict"], "PROBES names 'builtins.dict'; a subclass of zmqservices.probes.Probe is needed.*and that is {}"),
        (7, "PROBES is 7; a list of dotted paths is needed"),
    ],
)
def test_a_wrong_probe_is_told_before_anything_starts(cluster_config, value, text):
    with pytest.raises(ConfigurationError, match=text), run_services({**cluster_config, "PROBES": value}, Maths):
        pass

    assert not probes._attached


def test_the_probes_are_read_once_since_another_thread_may_detach_the_last_one():
    """Where `x.probes` is not None, `x.probes.hook` may be read from None a moment later."""
    found = []
    for path in Path(probes.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        if ".probes is not None" in text:
            branches = [one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.If)]
            asked = [one for one in branches if ".probes is not None" in ast.unparse(one.test)]
            found += [f"{path}:{one.lineno}" for one in asked if reads_again(one)]

    assert found == []


def reads_again(condition):
    """Whether the condition or its body reads an attribute of `x.probes`."""
    inner = (node.value for node in ast.walk(condition) if isinstance(node, ast.Attribute))
    return any(isinstance(node, ast.Attribute) and node.attr == "probes" for node in inner)
