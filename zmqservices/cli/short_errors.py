"""Logs errors at the start of services as one sentence each. The first error is raised, and so not among them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

#: Loggers that otherwise log these errors with a traceback.
LOGGERS = ("zmqservices.utils.concurrency", "zmqservices.containers", "zmqservices.hosting.lifecycle")


@contextmanager
def short_errors(with_traceback: bool) -> Iterator[None]:
    """During the block, LOGGERS log a sentence instead of a traceback, unless `with_traceback` is true."""
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
