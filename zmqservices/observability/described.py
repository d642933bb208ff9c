"""Describes a running service in plain values: its entrypoints and its dependencies.

Internal.
"""

from __future__ import annotations

import inspect
from typing import Any

from zmqservices.containers import ServiceContainer
from zmqservices.extensions import Entrypoint
from zmqservices.utils.shown_signatures import shown_signature

#: The most characters that are shown of a docstring, and of one annotation or signature.
LONGEST_DOC, LONGEST_SIGNATURE = 2000, 500


def described(container: ServiceContainer) -> dict[str, Any]:
    """The class's `doc`, its `entrypoints`, and its `dependencies`: the name of the provider's class by attribute."""
    return {
        "doc": doc_of(container.service_cls) if container.service_cls.__doc__ else "",
        "entrypoints": sorted(
            (_entrypoint(container, one) for one in container.entrypoints),
            key=lambda one: (str(one["kind"]), str(one["method"]), str(one["what"])),
        ),
        "dependencies": {
            str(one.attr_name): type(one).__name__
            for one in sorted(container.dependencies, key=lambda one: str(one.attr_name))
        },
    }


def _entrypoint(container: ServiceContainer, entrypoint: Entrypoint) -> dict[str, Any]:
    listed = entrypoint.listed()
    method = getattr(container.service_cls, entrypoint.method_name)
    return {
        "method": entrypoint.method_name,
        **({"kind": "rpc", "what": ""} if listed is None else listed),
        "signature": shown_signature(method)[:LONGEST_SIGNATURE],
        "annotations": _annotations(method),
        "doc": doc_of(method),
        **entrypoint.details(),
    }


def doc_of(described: object) -> str:
    """The docstring of an object, or ""; a long one is cut."""
    return (inspect.getdoc(described) or "")[:LONGEST_DOC]


def _annotations(method: object) -> dict[str, str]:
    """Each argument's annotation as it is written; the key `return` has that of the result."""
    found = getattr(method, "__annotations__", None) or {}
    return {str(name): _written(annotation)[:LONGEST_SIGNATURE] for name, annotation in found.items()}


def _written(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
