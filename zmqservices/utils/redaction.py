"""Shows arguments of calls in logs, with those that an entrypoint declares sensitive replaced by asterisks.

Internal. `zmqservices.utils` has the public names.
"""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol

REDACTED = "********"

#: The most characters of one value, and of all arguments together, in a log line.
LONGEST_VALUE, LONGEST_TEXT = 80, 400

_ADDRESS = re.compile(r" (?:object )?at 0x[0-9a-f]+")
_STEP = re.compile(r"[^.\[\]]+")


class HostedClass(Protocol):
    """The interface of a container that is used here."""

    @property
    def service_cls(self) -> type: ...


class RedactedEntrypoint(Protocol):
    """The interface of an entrypoint that is used here; see `zmqservices.extensions.Entrypoint`."""

    @property
    def container(self) -> HostedClass: ...

    @property
    def method_name(self) -> Any: ...

    @property
    def sensitive_arguments(self) -> Any: ...


def get_redacted_args(entrypoint: RedactedEntrypoint, /, *args: object, **kwargs: object) -> dict[str, Any]:
    """A deep copy of the arguments by name, with the entrypoint's `sensitive_arguments` replaced by asterisks.

    `sensitive_arguments` are paths such as `"card"`, `"user.card[0]"` or `"user[card]"`. Paths that do not exist
    are ignored.
    """
    callargs = deepcopy(_by_name(entrypoint, args, kwargs))
    paths = entrypoint.sensitive_arguments
    for path in (paths,) if isinstance(paths, str) else paths or ():
        _redact(callargs, path)
    return callargs


def _by_name(entrypoint: RedactedEntrypoint, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    service_cls, name = entrypoint.container.service_cls, entrypoint.method_name
    has_self = not isinstance(inspect.getattr_static(service_cls, name), staticmethod)
    head = (None,) if has_self else ()
    callargs = inspect.getcallargs(getattr(service_cls, name), *head, *args, **kwargs)
    if has_self:
        del callargs[next(iter(callargs))]
    return callargs


class _Short(reprlib.Repr):
    """Shortens values, and leaves out the addresses of objects."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST_VALUE

    def repr_bytes(self, value: bytes | bytearray | memoryview, level: int) -> str:
        return repr(bytes(value)) if len(value) <= LONGEST_VALUE else f"<{len(value):,} bytes>"

    repr_bytearray = repr_memoryview = repr_bytes

    def repr_instance(self, value: object, level: int) -> str:
        shown = _ADDRESS.sub("", super().repr_instance(value, level))
        return shown if len(shown) <= LONGEST_VALUE else f"{shown[:LONGEST_VALUE]}..."


_short = _Short()


def shown_arguments(worker_ctx: Any) -> str:
    """The arguments of a call on one line, `a=1, b='x'`, with sensitive ones redacted."""
    entrypoint = worker_ctx.entrypoint
    try:
        if entrypoint.sensitive_arguments:
            named = get_redacted_args(entrypoint, *worker_ctx.args, **worker_ctx.kwargs)
        else:
            # Not copied, since some arguments, such as an HTTP request, cannot be.
            named = _by_name(entrypoint, worker_ctx.args, worker_ctx.kwargs)
        text = ", ".join(f"{name}={_short.repr(value)}" for name, value in named.items()) or "no arguments"
    except Exception:
        # Show none, because sensitive arguments cannot be told from others here.
        return "arguments that cannot be shown"
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def _redact(callargs: dict[str, Any], path: str) -> None:
    steps = _STEP.findall(path)
    holder: Any = callargs
    for step in steps[:-1]:
        holder = _item(holder, step)
    for key in _keys(holder, steps[-1] if steps else ""):
        holder[key] = REDACTED


def _item(holder: Any, step: str) -> Any:
    for key in _keys(holder, step):
        return holder[key]
    return None


def _keys(holder: object, step: str) -> list[Any]:
    """A list with the key of `holder` that `step` names; empty if there is none."""
    if isinstance(holder, dict):
        candidates: list[Any] = [step, int(step)] if _is_number(step) else [step]
        return [key for key in candidates if key in holder][:1]
    if isinstance(holder, list) and _is_number(step) and -len(holder) <= int(step) < len(holder):
        return [int(step)]
    return []


def _is_number(step: str) -> bool:
    return step.lstrip("-").isdigit()
