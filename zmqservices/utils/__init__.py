"""Small things that extensions and tools share."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from zmqservices.utils.redaction import REDACTED, get_redacted_args

__all__ = ["REDACTED", "get_redacted_args", "import_from_path", "sanitize_url"]


def import_from_path(path: str | None) -> Any:
    """The object that a dotted path names; None for None. Raises ImportError quoting the path."""
    if path is None:
        return None
    module_name, _dot, name = path.rpartition(".")
    if not module_name:
        raise ImportError(f"{path!r} is not a dotted path to an object, such as 'package.module.Name'")
    module = import_module(module_name)
    try:
        return getattr(module, name)
    except AttributeError:
        raise ImportError(f"cannot import {path!r}: the module {module_name!r} has no {name!r}") from None


def sanitize_url(url: str) -> str:
    """The URL with its password, if any, made unreadable."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{REDACTED}@{address}"))
