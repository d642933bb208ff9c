"""Arguments that may be logged: what an entrypoint declared sensitive is replaced by asterisks."""

from __future__ import annotations

import inspect
import re
from copy import deepcopy
from typing import Any

REDACTED = "********"

_STEP = re.compile(r"[^.\[\]]+")


def get_redacted_args(entrypoint: Any, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments by their names, deeply copied, with the entrypoint's `sensitive_arguments` replaced.

    A path such as `"card"`, `"user.card[0]"` or `"user[card]"` names what to hide; paths that lead nowhere
    are ignored.
    """
    service_cls, name = entrypoint.container.service_cls, entrypoint.method_name
    has_self = not isinstance(inspect.getattr_static(service_cls, name), staticmethod)
    head = (None,) if has_self else ()
    callargs = inspect.getcallargs(getattr(service_cls, name), *head, *args, **kwargs)
    if has_self:
        del callargs[next(iter(callargs))]
    callargs = deepcopy(callargs)
    paths = entrypoint.sensitive_arguments
    for path in (paths,) if isinstance(paths, str) else paths or ():
        _redact(callargs, path)
    return callargs


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


def _keys(holder: Any, step: str) -> list[Any]:
    """The keys of `holder` that `step` means: one or none."""
    if isinstance(holder, dict):
        candidates: list[Any] = [step, int(step)] if _is_number(step) else [step]
        return [key for key in candidates if key in holder][:1]
    if isinstance(holder, list) and _is_number(step) and -len(holder) <= int(step) < len(holder):
        return [int(step)]
    return []


def _is_number(step: str) -> bool:
    return step.lstrip("-").isdigit()
