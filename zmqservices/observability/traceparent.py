"""Internal: reads and writes the header of a trace (W3C Trace Context), and decides which traces are sampled.

OpenTelemetry's library is not needed here.

Rule 1: no contexts and no clock here; random digits are an argument.
Rule 2: the lower 64 bits of a trace's id decide, as in OpenTelemetry's TraceIdRatioBased sampler.
"""

from __future__ import annotations

import os
import re
from functools import cache

#: The header that carries a trace. Its last two digits say whether the trace is sampled.
TRACEPARENT = "traceparent"

#: The place of the digit of a header that is "0" in almost every trace that is not sampled.
LAST_DIGIT = 54

#: Whether a text is the header of a trace that is not sampled: the lowest flag is not set.
is_unsampled = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]").fullmatch

#: Whether a text is the header of a sampled trace, with no flags but those of a sampled trace and of a random id.
is_sampled = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[13]").fullmatch

#: The description of a sampler that decides by the trace's id where a trace begins, and follows the parent elsewhere.
_usual = re.compile(
    r"ParentBased\{root:(?:(AlwaysOffSampler)|(AlwaysOnSampler)|TraceIdRatioBased\{([0-9.e-]+)\}),"
    r"remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,"
    r"localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler\}"
).fullmatch

#: Stands for a byte with which the lower half of a sampled trace's id may begin.
MAYBE = b"\1"

#: The largest number of 64 bits.
MOST_BITS = (1 << 64) - 1

#: The parts that all headers of one process share: half of the trace's id, and the id of the span.
_head = _tail = ""


def _new_ids() -> None:
    global _head, _tail
    _head, _tail = f"00-{_digits()}", f"-{_digits()}-00"


def _digits() -> str:
    """16 hexadecimal digits that are not all zero."""
    return f"{int.from_bytes(os.urandom(8), 'big') or 1:016x}"


_new_ids()
os.register_at_fork(after_in_child=_new_ids)


def bound_of(sampler: str) -> int | None:
    """A trace is sampled if the lower 64 bits of its id are less than this number; None for a sampler that must be asked."""
    usual = _usual(sampler)
    if usual is None:
        return None
    off, on, share = usual.groups()
    return 0 if off else 1 << 64 if on else round(float(share) * (1 << 64))


def unsampled(digits: str) -> str:
    """The header of a new trace that is not sampled. `digits`: 16 random hexadecimal digits, the lower half of its id."""
    return f"{_head}{digits}{_tail}"


def new_headers(bits: bytes, bound: int) -> list[str | None]:
    """The headers of new traces, one for every 8 random bytes; None for each trace that is sampled."""
    # These steps make all headers at once. One by one, they would take four times as long.
    made = f"{_head}{bits.hex(' ', 8).replace(' ', f'{_tail} {_head}')}{_tail}".split(" ")
    headers: list[str | None] = [*made]
    if bound:
        # Only few have a first byte that is small enough, so each of them is looked at.
        first, least = bits[::8].translate(_maybe_sampled(bound)), bound.to_bytes(9, "big")[1:]
        at = first.find(MAYBE)
        while at >= 0:
            if bound > MOST_BITS or bits[8 * at : 8 * at + 8] < least:
                headers[at] = None
            at = first.find(MAYBE, at + 1)
    return headers


@cache
def _maybe_sampled(bound: int) -> bytes:
    """A table for `bytes.translate`: MAYBE for each first byte that an id below the bound may have, otherwise another byte."""
    return bytes(byte <= bound >> 56 for byte in range(256))


def parts_of(header: str) -> tuple[int, int, int]:
    """The ids of the trace and of the span, and the flags."""
    _, trace, span, flags = header.split("-")
    return int(trace, 16), int(span, 16), int(flags, 16)


def sampled(trace: int, span: str) -> str:
    """The header of a new trace that is sampled, and whose id is random. `span`: 16 hexadecimal digits."""
    return f"00-{trace:032x}-{span}-03"


def child_of(header: str, span: str) -> str:
    """The header of the span with this id (16 hexadecimal digits), whose parent has the given header."""
    return f"{header[:36]}{span}{header[52:]}"


def span_of(header: str) -> int:
    """The id of the span."""
    return int(header[36:52], 16)


def span_ids(bits: bytes) -> list[str]:
    """The ids of new spans, 16 hexadecimal digits for every 8 random bytes."""
    return bits.hex(" ", 8).split(" ")
