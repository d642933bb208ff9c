"""Internal: the header of a trace (W3C Trace Context), and which traces are sampled, without OpenTelemetry's library.

Rule 1: no contexts and no clock here; random bits are an argument.
Rule 2: the lower 64 bits of a trace's id decide, as OpenTelemetry's samplers of a share have it.
"""

from __future__ import annotations

import os
import re

#: The header by which a trace travels; its last two digits say whether it is sampled.
TRACEPARENT = "traceparent"

#: Whether a text is the header of a trace that is not sampled: the lowest flag is not set.
is_unsampled = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]").fullmatch

_sampled = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f][13579bdf])").fullmatch

#: The description of a sampler that goes by the trace's id where a trace begins, and else follows the parent.
_usual = re.compile(
    r"ParentBased\{root:(?:(AlwaysOffSampler)|(AlwaysOnSampler)|TraceIdRatioBased\{([0-9.e-]+)\}),"
    r"remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,"
    r"localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler\}"
).fullmatch

#: What the headers of one process have in common: half of each trace's id, and the id of the span.
_template = ""


def _new_template() -> None:
    global _template
    _template = f"00-{_digits()}%016x-{_digits()}-00"


def _digits() -> str:
    """16 hexadecimal digits that are not all zero."""
    return f"{int.from_bytes(os.urandom(8), 'big') or 1:016x}"


_new_template()
os.register_at_fork(after_in_child=_new_template)


def bound_of(sampler: str) -> int | None:
    """Traces are sampled where the lower 64 bits of their ids are less than this; None for a sampler that must be asked."""
    usual = _usual(sampler)
    if usual is None:
        return None
    off, on, share = usual.groups()
    return 0 if off else 1 << 64 if on else round(float(share) * (1 << 64))


def unsampled(bits: int) -> str:
    """The header of a new trace that is not sampled. `bits`: 64 random ones, the lower half of its id."""
    return _template % bits


def parts_of(header: str) -> tuple[int, int, int]:
    """The ids of the trace and of the span, and the flags."""
    _, trace, span, flags = header.split("-")
    return int(trace, 16), int(span, 16), int(flags, 16)


def sampled_parts(header: object) -> tuple[int, int, int] | None:
    """As `parts_of`, for whatever came from a peer; None for what is not the header of a sampled trace."""
    found = _sampled(header) if type(header) is str else None
    return None if found is None else (int(found[1], 16), int(found[2], 16), int(found[3], 16))
