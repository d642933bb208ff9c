"""Helpers for extensions and tools."""

from __future__ import annotations

import builtins
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from zmqservices.utils.redaction import REDACTED, get_redacted_args

__all__ = ["REDACTED", "get_redacted_args", "import_from_path", "sanitize_url"]


def import_from_path(path: str | None) -> Any:
    """Import the object that a dotted path names; None for None. Raises ImportError, which quotes the path.

    The path names a module, something in a module (`"collections.OrderedDict.fromkeys"`), or a builtin (`"dict"`).
    """
    if path is None:
        return None
    names = path.split(".")
    if not all(name.isidentifier() for name in names):
        raise ImportError(f"{path!r} is not a dotted path to an object, such as 'package.module.Name'")
    found, where, rest = _longest_module(names)
    for name in rest:
        try:
            found, where = getattr(found, name), f"{where}.{name}"
        except AttributeError:
            owner = f"the module {where!r}" if isinstance(found, ModuleType) else where
            raise ImportError(f"cannot import {path!r}: {owner} has no {name!r}") from None
    return found


def _longest_module(names: list[str]) -> tuple[Any, str, list[str]]:
    """Import the longest prefix of `names` that is a module. Returns it, its name, and the remaining names."""
    for length in range(len(names), 0, -1):
        where = ".".join(names[:length])
        try:
            return import_module(where), where, names[length:]
        except ModuleNotFoundError as error:
            # A module that exists but fails to import another one must raise its own error.
            if error.name is None or not f"{where}.".startswith(f"{error.name}."):
                raise
    return builtins, "builtins", names


def sanitize_url(url: str) -> str:
    """The URL with its password, if it has one, replaced by asterisks."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{REDACTED}@{address}"))
