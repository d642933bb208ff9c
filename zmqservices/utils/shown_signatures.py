"""Signatures as texts, for people.

Internal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


class _Annotation:
    """An annotation that was not evaluated; its repr has no quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _plain(annotation: object) -> object:
    return _Annotation(annotation) if isinstance(annotation, str) else annotation


def shown_signature(function: Callable[..., Any]) -> str:
    """The signature as callers see it, without `self`: `(a: int, b=2) -> int`."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [parameter.replace(annotation=_plain(parameter.annotation)) for parameter in signature.parameters.values()]
    if parameters and parameters[0].kind in (parameters[0].POSITIONAL_ONLY, parameters[0].POSITIONAL_OR_KEYWORD):
        parameters = parameters[1:]
    return str(signature.replace(parameters=parameters, return_annotation=_plain(signature.return_annotation)))
