"""What is said of a process that could not start: a sentence, and a traceback where somebody asks for it."""

from __future__ import annotations

import os
import traceback
from typing import Any

import click
import gevent

import discovery
import zmqservices
from zmqservices.exceptions import ZmqServicesError

#: What a process ends with that could not start although its command line and configuration are right.
COULD_NOT_START = 1

_OURS = (ZmqServicesError, discovery.DirectoryError)
_NOT_THE_USERS = tuple(
    os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep for module in (zmqservices, discovery, gevent)
)


class CouldNotStart(click.ClickException):
    """Told on stderr as every wrong command line is."""

    exit_code = COULD_NOT_START

    def __init__(self, error: BaseException, with_traceback: bool) -> None:
        super().__init__(sentence(error))
        self.error = error
        self._with_traceback = with_traceback

    def show(self, file: Any = None) -> None:
        """The traceback first: what is said last is what is read."""
        if self._with_traceback:
            click.echo("".join(traceback.format_exception(self.error)), file=file, err=True, nl=False)
        super().show(file)


class WronglyConfigured(CouldNotStart):
    """The same, of what is wrong with the configuration: a supervisor does not try that again."""

    exit_code = 2


def sentence(error: BaseException) -> str:
    """What happened, and, where it is no error of ours, where it did."""
    if isinstance(error, _OURS):
        return str(error)
    return f"the services could not start: {what_and_where(error)}; --traceback shows how it came to that"


def what_and_where(error: BaseException) -> str:
    """The same for a log: `LookupError: no such database (shop.py, line 6, in setup)`."""
    if isinstance(error, _OURS):
        return str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text}{_place_of(error)}"


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not os.path.abspath(frame.filename).startswith(_NOT_THE_USERS)]
    if not own:
        return ""
    return f" ({own[-1].filename}, line {own[-1].lineno}, in {own[-1].name})"
