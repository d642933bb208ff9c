"""While services start, errors beside the one that ends the start are logged as a sentence each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

#: Who logs what else failed, with a traceback: elsewhere there is no other word of it.
LOGGERS = ("zmqservices.utils.concurrency", "zmqservices.containers", "zmqservices.hosting.lifecycle")


@contextmanager
def short_errors(with_traceback: bool) -> Iterator[None]:
    """For the length of the block those loggers log no traceback, unless it is asked for."""
    loggers = [] if with_traceback else [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(shorten)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(shorten)


def shorten(record: logging.LogRecord) -> bool:
    """A filter: let a sentence that says what failed, and where, stand for the traceback."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is not None:
        from zmqservices.cli.failures import what_and_where

        record.msg, record.args, record.exc_info = "failed to start as well: %s", (what_and_where(error),), None
    return True
