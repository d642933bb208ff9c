"""Checks whether arguments fit a function. The signature is analysed once per function, not once per call.

Internal.

Rule 1: pure. A shape consists of the function's own parameters; a decorator that takes `*args` takes any arguments.
Rule 2: `fits` is true exactly if Python can call the function with the arguments.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

#: Matches Python's text about too many arguments, with the function and the given keyword-only arguments.
_TOO_MANY = re.compile(
    r"(\S+\(\)) takes .*positional arguments? but \d+(?:( positional arguments? \(.*\) were)| were| was) given$"
)


class CallShape:
    """The arguments that a method takes from its caller, without `self`."""

    __slots__ = (
        "function", "owner", "_before", "_names", "_required", "_most", "_by_name", "_required_by_name", "_any_name",
    )  # fmt: skip

    def __init__(self, function: Callable[..., Any], has_self: bool = True) -> None:
        self.function = function
        #: The class of the method, if the function was looked up on a class.
        self.owner: Any = None
        self._before = 1 if has_self else 0
        self._read(_parameters(function))

    @classmethod
    def of_method(cls, owner: type, name: str) -> CallShape:
        """The shape of a method that is looked up on its class. Static methods have no `self` to skip."""
        shape = cls(getattr(owner, name), not isinstance(inspect.getattr_static(owner, name), staticmethod))
        shape.owner = owner
        return shape

    def _read(self, parameters: list[inspect.Parameter]) -> None:
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        by_name = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        kinds = {p.kind for p in parameters}
        self._names = tuple(p.name if p.kind is p.POSITIONAL_OR_KEYWORD else None for p in positional)
        self._required = sum(p.default is p.empty for p in positional)
        self._most = float("inf") if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional)
        self._by_name = frozenset(p.name for p in by_name)
        self._required_by_name = frozenset(
            p.name for p in by_name if p.kind is p.KEYWORD_ONLY and p.default is p.empty
        )
        self._any_name = inspect.Parameter.VAR_KEYWORD in kinds

    def fits(self, args: Collection[Any], kwargs: Mapping[str, Any] | None) -> bool:
        """Whether the function can be called with these arguments."""
        count = len(args) + self._before
        if not kwargs:
            return self._required <= count <= self._most and not self._required_by_name
        if count > self._most or not self._required_by_name <= kwargs.keys():
            return False
        if not self._any_name and not kwargs.keys() <= self._by_name:
            return False
        if any(name in kwargs for name in self._names[:count]):
            return False
        return all(name in kwargs for name in self._names[count : self._required])

    def why_not(self, args: Collection[Any], kwargs: Mapping[str, Any] | None) -> str:
        """Python's own sentence about arguments that do not fit."""
        head = (None,) * self._before
        try:
            inspect.getcallargs(self.function, *head, *args, **(kwargs or {}))
        except TypeError as exc:
            text = str(exc)
            too_many = _TOO_MANY.match(text) if self._before else None
            return text if too_many is None else self._too_many(too_many[1], len(args), too_many[2])
        return f"{getattr(self.function, '__name__', self.function)}() cannot be called with these arguments"


    def _too_many(self, name: str, given: int, rest: str) -> str:
        # In Python's words, but without `self`, which the caller does not give.
        least, most = max(self._required - self._before, 0), int(self._most) - self._before
        takes = f"{most}" if least >= most else f"from {least} to {most}"
        plural = "" if takes == "1" else "s"
        return f"{name} takes {takes} positional argument{plural} but {given}{rest or (' was' if given == 1 else ' were')} given"


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):
        # A callable without a signature accepts anything.
        return list(inspect.signature(lambda self, *args, **kwargs: None).parameters.values())
