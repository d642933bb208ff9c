"""Log lines that say how long something took."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


def make_timing_logger(
    logger: logging.Logger, precision: int = 3, level: int = logging.DEBUG
) -> Callable[..., AbstractContextManager[None]]:
    """A context manager `log_time(text, *args)` that logs the text and the seconds that its block took.

    The line is logged whether or not the block raises; `precision` is the number of decimals.
    """

    @contextmanager
    def log_time(text: str, *args: Any) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            logger.log(level, f"{text} in %0.{precision}fs", *args, seconds)

    return log_time
