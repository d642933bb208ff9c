"""Sets up the log of a process of `zmqservices run`, as the settings say."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from zmqservices import constants
from zmqservices.exceptions import ConfigurationError
from zmqservices.log_helpers import escape_what_others_sent

#: The supervisor of `--processes` sets this variable to the number of the process, from 1.
PROCESS_NUMBER = "ZMQSERVICES_PROCESS"


def log_to_stderr(settings: Mapping[str, Any] | None = None) -> None:
    """Log INFO and above to stderr, as LOG_FORMAT and LOG_TRACEBACKS say, unless logging is configured already."""
    from zmqservices.observability.logs import formatter_of  # Imported here: it imports gevent, and patching comes first.

    handler = logging.StreamHandler()
    handler.setFormatter(formatter_of(settings or {}, _process_number()))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def process_label() -> str:
    """The prefix of log lines in one of several processes, such as `[2] `; empty for a single process."""
    number = _process_number()
    return f"[{number}] " if number else ""


def _process_number() -> str:
    number = os.environ.get(PROCESS_NUMBER, "")
    return number if number.isdigit() else ""


def setup_logging(settings: Mapping[str, Any]) -> None:
    """Log as the setting LOGGING says (a `dictConfig`). Without it, log INFO and above to stderr.

    Raises ConfigurationError for a LOGGING that logging refuses, and if LOG_FORMAT is set as well.
    """
    escape_what_others_sent()
    wanted = settings.get(constants.LOGGING_CONFIG_KEY)
    if wanted is None:
        log_to_stderr(settings)
        return
    if constants.LOG_FORMAT_CONFIG_KEY in settings:
        raise ConfigurationError(
            "LOG_FORMAT and LOGGING are both set; leave one out, or name a formatter in LOGGING: "
            "'()': zmqservices.observability.logs.JsonFormatter"
        )
    from logging.config import dictConfig

    try:
        dictConfig(wanted)
    except (ValueError, TypeError, AttributeError, ImportError, KeyError) as error:
        causes = f"{error}; {error.__cause__}" if error.__cause__ else f"{error}"
        raise ConfigurationError(f"LOGGING is no logging configuration (dictConfig): {causes}") from error
