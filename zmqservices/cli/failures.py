"""Reports why services could not start: a sentence, and with --traceback the traceback as well."""

from __future__ import annotations

import importlib
import os
import traceback
from typing import IO, Any

import click
import gevent

import discovery
import zmqservices
from zmqservices.exceptions import ZmqServicesError

#: The exit code of a process that could not start although its command line and configuration are right.
COULD_NOT_START = 1

_OURS = (ZmqServicesError, discovery.DirectoryError)
_NOT_THE_USERS = tuple(
    os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep for module in (zmqservices, discovery, gevent, importlib)
)


class CouldNotStart(click.ClickException):
    """An error at the start of services, shown on stderr as an error of the command line is."""

    exit_code = COULD_NOT_START

    def __init__(self, error: BaseException, with_traceback: bool) -> None:
        super().__init__(sentence(error))
        self.error = error
        self._with_traceback = with_traceback

    def show(self, file: IO[Any] | None = None) -> None:
        """Show the error, after the traceback: people read the last line."""
        if self._with_traceback:
            click.echo("".join(traceback.format_exception(self.error)), file=file, err=True, nl=False)
        super().show(file)


class WronglyConfigured(CouldNotStart):
    """An error of the configuration: a supervisor does not start the process again."""

    exit_code = 2


def sentence(error: BaseException) -> str:
    """The text of the error; for an error of another package, also the place where it was raised."""
    if isinstance(error, _OURS):
        return str(error)
    return f"the services could not start: {what_and_where(error)}; --traceback shows the traceback"


def what_and_where(error: BaseException) -> str:
    """The error in short, for a log: `LookupError: no such database (shop.py, line 6, in setup)`."""
    if isinstance(error, _OURS):
        return str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frame = users_frame(error)
    return text if frame is None else f"{text} ({frame.filename}, line {frame.lineno}, in {frame.name})"


def users_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of the error's traceback that is neither ours, nor gevent's, nor of the import machinery."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if _is_users(frame.filename)), None)


def _is_users(filename: str) -> bool:
    return not filename.startswith("<frozen ") and not os.path.abspath(filename).startswith(_NOT_THE_USERS)
