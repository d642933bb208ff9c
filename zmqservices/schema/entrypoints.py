"""Internal. The entrypoints that a service class declares, without a container."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from zmqservices.extensions import ENTRYPOINT_EXTENSIONS_ATTR, Entrypoint
from zmqservices.hosting.declaration import check_class_methods, get_service_name


@dataclass(frozen=True, slots=True)
class DeclaredEntrypoint:
    """An entrypoint and its method."""

    name: str
    method: Callable[..., Any]
    entrypoint: Any

    @property
    def expected(self) -> list[type[BaseException]]:
        """The errors that are the caller's own mistakes."""
        expected = self.entrypoint.expected_exceptions or ()
        return list(expected if isinstance(expected, tuple) else (expected,))


def entrypoints_of(service_cls: type, kind: type[Entrypoint]) -> Iterator[DeclaredEntrypoint]:
    """All entrypoints of one kind, in the order of their methods' names.

    Raises ConfigurationError for a class that is no service.
    """
    get_service_name(service_cls)
    check_class_methods(service_cls)
    for name, method in inspect.getmembers(service_cls, inspect.isroutine):
        for entrypoint in sorted(getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ()), key=lambda one: str(one.listed())):
            if isinstance(entrypoint, kind):
                yield DeclaredEntrypoint(name, method, entrypoint)


def version_of(service_cls: type) -> str:
    """The `__version__` of the class's module, or of its package; "0" if there is none."""
    module = service_cls.__module__
    while module:
        found = getattr(importlib.import_module(module), "__version__", None)
        if isinstance(found, str):
            return found
        module = module.rpartition(".")[0]
    return "0"
