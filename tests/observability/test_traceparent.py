"""The header of a trace, and which traces are sampled."""

import pytest
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    TraceIdRatioBased,
)

from zmqservices.observability.traceparent import (
    bound_of,
    child_of,
    is_sampled,
    is_unsampled,
    new_headers,
    parts_of,
    sampled,
    span_ids,
    span_of,
    unsampled,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("share", [0.0, 2**-64, 2**-57, 2**-56, 0.01, 0.5, 1 - 2**-53, 1.0])
def test_a_trace_is_decided_as_opentelemetry_decides_it(share):
    sampler = ParentBasedTraceIdRatio(share)
    bound = bound_of(sampler.get_description())

    for bits in (0, bound - 1, bound, bound + 1, 2**64 - 1):
        if 0 <= bits < 2**64:
            sampled = sampler.should_sample(None, 7 << 64 | bits, "a").decision.is_sampled()
            (header,) = new_headers(bits.to_bytes(8, "big"), bound)
            assert (bits < bound) is (header is None) is sampled, bits


def test_only_usual_samplers_are_decided_here():
    assert (bound_of(DEFAULT_ON.get_description()), bound_of(DEFAULT_OFF.get_description())) == (2**64, 0)
    for other in (ALWAYS_ON, ALWAYS_OFF, TraceIdRatioBased(0.1), ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF)):
        assert bound_of(other.get_description()) is None


@pytest.mark.parametrize("bits", [0, 1, 2**64 - 1])
def test_the_header_of_an_unsampled_trace_is_one_and_has_its_bits(bits):
    header = unsampled(f"{bits:016x}")

    trace, span, flags = parts_of(header)
    assert is_unsampled(header) and not is_sampled(header)
    assert (trace & 2**64 - 1, flags) == (bits, 0) and trace >> 64 and span


def test_headers_made_together_are_those_made_one_by_one():
    bits = [7, 2**63, 2**64 - 1]

    made = new_headers(b"".join(each.to_bytes(8, "big") for each in bits), bound=8)

    assert made == [None, *(unsampled(f"{each:016x}") for each in bits[1:])]


def test_the_header_of_a_sampled_trace_has_its_ids_and_its_children_are_of_the_same_trace():
    header, (other,) = sampled(int(TRACE, 16), SPAN), span_ids(b"\0" * 7 + b"\x07")

    assert is_sampled(header) and not is_unsampled(header)
    assert parts_of(header) == (int(TRACE, 16), int(SPAN, 16), 3)
    assert span_of(header) == int(SPAN, 16)
    assert child_of(header, other) == f"00-{TRACE}-{7:016x}-03"
    assert parts_of(child_of(f"00-{TRACE}-{SPAN}-01", other)) == (int(TRACE, 16), 7, 1)


@pytest.mark.parametrize("junk", [
    "", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-11",
    f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-", f"00-{TRACE.upper()}-{SPAN}-01",
])  # fmt: skip
def test_other_headers_are_not_those_of_sampled_traces(junk):
    assert not is_sampled(junk)
