"""Checks of what a service class declares: which functions entrypoints can run, and which options extensions take.

Internal. See `zmqservices.extensions`.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import types

from zmqservices.exceptions import ConfigurationError

#: The types into which other decorators turn a function in a class body.
DESCRIPTORS = (staticmethod, classmethod, property, functools.cached_property, functools.partialmethod)


def check_function(kind: str, function: object, takes_generators: bool, takes_coroutines: bool) -> None:
    """Raise ConfigurationError if an entrypoint of the class `kind` could never run the function that it decorates.

    `takes_generators`, `takes_coroutines`: see `zmqservices.extensions.Entrypoint`.
    """
    plain = function.__func__ if isinstance(function, staticmethod) else function
    if not isinstance(plain, types.FunctionType):
        raise ConfigurationError(_no_method(kind, function))
    name = plain.__qualname__
    is_async = inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain)
    if is_async and not takes_coroutines:
        raise ConfigurationError(
            f"{kind} on {name}, an async def: workers are greenlets, and nobody would await it; write a plain def, whose "
            "calls wait without await"
        )
    if inspect.isgeneratorfunction(plain) and not takes_generators:
        raise ConfigurationError(
            f"{kind} on {name}, a generator: nobody would iterate over it, so its body would never run; return a list "
            "in place of yield"
        )


def _no_method(kind: str, function: object) -> str:
    if isinstance(function, classmethod):
        return no_class_method(kind, getattr(function.__func__, "__qualname__", repr(function.__func__)))
    return (
        f"{kind} on {f'a {type(function).__name__}' if isinstance(function, DESCRIPTORS) else f'{function!r:.80}'}: "
        "a method is needed, a plain def in the class"
    )


def no_class_method(kind: str, name: str) -> str:
    """The error text for an entrypoint on a class method."""
    return f"{kind} on {name}, a class method: workers call methods of instances; leave @classmethod out"


def unknown_option(cls: type, name: str) -> str:
    """The error text for an option that the `__init__` of a class and of its bases do not take."""
    known = {
        parameter
        for base in cls.__mro__
        if "__init__" in vars(base)
        for parameter, kind in inspect.signature(vars(base)["__init__"]).parameters.items()
        if parameter != "self" and kind.kind not in (kind.VAR_KEYWORD, kind.VAR_POSITIONAL)
    }
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(sorted(known))}"
    return f"{cls.__name__} has no option {name!r}{hint}"
