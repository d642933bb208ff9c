"""The context of an unsampled trace has a span as soon as code looks, and the headers of new traces differ."""

import gc
import weakref
from contextvars import copy_context
from types import SimpleNamespace

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan

from zmqservices.observability.traceparent import is_unsampled
from zmqservices.observability.tracing import new_traces, propagation
from zmqservices.observability.tracing.library import SPAN, attach
from zmqservices.observability.tracing.new_traces import MADE_TOGETHER, NewTraces
from zmqservices.observability.tracing.propagation import Sampling
from zmqservices.observability.tracing.unsampled_context import UnsampledContext

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def here():
    here = UnsampledContext()
    here.data = {"traceparent": HEADER}
    return here


def ids_of(span):
    spoken = span.get_span_context()
    return f"00-{spoken.trace_id:032x}-{spoken.span_id:016x}-{spoken.trace_flags:02x}"


@pytest.mark.parametrize("read", [
    lambda here: trace.get_current_span(here),
    lambda here: here[SPAN],
    lambda here: dict(here)[SPAN],
    lambda here: {**here}[SPAN],
    lambda here: here.copy()[SPAN],
    lambda here: (here | {})[SPAN],
    lambda here: ({} | here)[SPAN],
    lambda here: next(iter(here.values())),
    lambda here: here[next(iter(here))],
    lambda here: trace.get_current_span(baggage.set_baggage("customer", "7", here)),
    lambda here: here.get(SPAN) if here and SPAN in here and len(here) == 1 else None,
])  # fmt: skip
def test_however_it_is_read_the_context_has_the_span_of_the_trace(here, read):
    span = read(here)

    assert isinstance(span, NonRecordingSpan) and not span.is_recording()
    assert ids_of(span) == HEADER
    assert HEADER.split("-")[1] in repr(span).replace("0x", "")


def test_spans_that_are_opened_inside_are_of_the_same_trace_and_not_sampled(here):
    span = TracerProvider().get_tracer("shop").start_span("own", here)

    assert not span.is_recording()
    assert ids_of(span).split("-")[1::2] == [TRACE, "00"]


def test_a_copy_of_the_context_keeps_its_trace_when_others_follow(here):
    copies = []

    def job(data):
        current = UnsampledContext()
        current.data = data
        attach(current)
        copies.append(copy_context())

    for header in (HEADER, HEADER.replace("0a", "0b")):
        context_of_job = copy_context()
        context_of_job.run(job, {"traceparent": header})

    seen = [ids_of(each.run(trace.get_current_span)) for each in copies]
    assert seen == [HEADER, HEADER.replace("0a", "0b")]
    assert context.get_current() == {}


@pytest.mark.parametrize("junk", [None, 7, "", "0" * 55, HEADER[:-2] + "01", HEADER + "0"])
def test_a_header_that_is_no_unsampled_trace_is_replaced_when_it_is_asked_for(here, junk):
    here.data["traceparent"] = junk

    header = ids_of(trace.get_current_span(here))

    assert is_unsampled(header) and header == here.data["traceparent"]


def test_the_baggage_of_the_call_is_in_the_context(here):
    here.data["baggage"] = "customer=7"

    assert baggage.get_baggage("customer", here) == "7"
    assert ids_of(trace.get_current_span(here)) == HEADER


@pytest.mark.parametrize("own", [{}, {"traceparent": "junk", "baggage": "customer=8"}], ids=["none", "own"])
def test_calls_of_other_clients_inside_a_worker_carry_its_trace_and_its_baggage(here, own):
    here.data["baggage"] = "customer=7"
    headers, token = dict(own), attach(here)

    parent = Sampling(DEFAULT_ON.get_description()).parent_of_sampled(headers)
    context.detach(token)

    assert parent is None
    assert headers == {"traceparent": HEADER, "baggage": own.get("baggage", "customer=7")}


@pytest.mark.parametrize("junk", [7, "", "ff" + HEADER[2:], f"{HEADER},{HEADER}"])
def test_a_malformed_header_outside_of_workers_is_replaced_by_that_of_a_new_trace(junk):
    headers = {"traceparent": junk}

    assert Sampling(ParentBased(ALWAYS_OFF).get_description()).parent_of_sampled(headers) is None

    assert is_unsampled(headers["traceparent"])


def test_ids_of_sampled_traces_are_as_random_as_their_share_allows(monkeypatch):
    sampling = Sampling(ParentBased(TraceIdRatioBased(0.75)).get_description())
    ids = []

    for eighth in range(8):
        monkeypatch.setattr(propagation, "getrandbits", lambda count, eighth=eighth: eighth << count - 3)
        ids.append(int(sampling.begun_header()[19:35], 16) / 2**64)

    assert ids == [0.75 * eighth / 8 for eighth in range(8)]


@pytest.mark.parametrize("fields", [set(), {"baggage"}, {"b3"}])
def test_no_header_is_written_by_hand_if_the_application_sends_traces_otherwise_or_not_at_all(fields, monkeypatch):
    monkeypatch.setattr(propagation, "get_global_textmap", lambda: SimpleNamespace(fields=fields))

    sampling = Sampling(DEFAULT_ON.get_description())

    assert (sampling.is_plain, sampling.reads, sampling.bound, sampling.new) == (False, False, None, None)


def test_headers_of_new_traces_differ():
    new = NewTraces(0)

    made = [new.next() for _ in range(3 * MADE_TOGETHER)]

    assert len(set(made)) == len(made) and all(map(is_unsampled, made))


def test_headers_that_are_ready_are_forgotten_in_a_forked_child():
    new = NewTraces(0)
    new.next()

    new_traces._made._call_all()

    assert new.ready == []


def test_a_context_that_was_read_is_freed_with_its_job():
    here = UnsampledContext()
    here.data = {}
    trace.get_current_span(here).get_span_context()
    gone = weakref.ref(here[SPAN])
    gc.disable()
    try:
        here = None
        assert gone() is None
    finally:
        gc.enable()
