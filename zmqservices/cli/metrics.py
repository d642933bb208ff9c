"""Serves the page of metrics of a process of `zmqservices run`, for Prometheus or for its supervisor."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zmqservices import configuration, constants
from zmqservices.exceptions import ConfigurationError

_log = logging.getLogger(__name__)

#: A supervisor sets this variable to the UNIX socket at which this process serves its page.
SOCKET_VARIABLE = "ZMQSERVICES_METRICS_SOCKET"


def address_of(settings: Mapping[str, Any]) -> str | None:
    """The value of METRICS_ADDRESS; None if it is not set. Raises ConfigurationError for a value that is no address."""
    address = configuration.text(settings, constants.METRICS_ADDRESS_CONFIG_KEY, None)
    if address is not None:
        # Imported here: it imports `socket`, which must be patched first.
        from zmqservices.observability.binding import parse

        parse(address)
    return address


@contextmanager
def served(settings: Mapping[str, Any]) -> Iterator[None]:
    """Serve the page of this process during a block, if METRICS_ADDRESS or a supervisor asks for it.

    Raises ConfigurationError for a wrong address, a port in use, or a missing extra.
    """
    address = os.environ.pop(SOCKET_VARIABLE, "") or address_of(settings)
    if not address:
        if configuration.boolean(settings, constants.STATISTICS_CONFIG_KEY, False):
            from zmqservices.observability.statistics import Statistics
            from zmqservices.probes import attached

            with attached(Statistics()):
                yield
        else:
            yield
        return
    try:
        from zmqservices.observability.prometheus import MetricsServer
    except ImportError as error:
        raise ConfigurationError(f"METRICS_ADDRESS is {address!r}, and {error}") from error
    server = MetricsServer(address)
    server.start()
    _log.info("metrics are at %s", address if address.startswith("/") else f"http://{address}/metrics")
    try:
        yield
    finally:
        server.stop()
