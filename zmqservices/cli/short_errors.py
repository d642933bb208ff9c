"""While services start, further errors beside the one that is raised are logged as one sentence each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

#: Loggers that report further errors with a traceback, which is useful outside of a start.
LOGGERS = ("zmqservices.utils.concurrency", "zmqservices.containers", "zmqservices.hosting.lifecycle")


@contextmanager
def short_errors(with_traceback: bool) -> Iterator[None]:
    """During the block those loggers log no tracebacks, unless `with_traceback` is true."""
    loggers = [] if with_traceback else [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(shorten)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(shorten)


def shorten(record: logging.LogRecord) -> bool:
    """A logging filter that replaces a traceback by a sentence: what failed, and where."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is not None:
        from zmqservices.cli.failures import what_and_where

        record.msg, record.args, record.exc_info = "failed to start as well: %s", (what_and_where(error),), None
    return True
