"""The settings for HTTP, read once from a configuration.

Internal. Services use `zmqservices.web.handlers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zmqservices import configuration, constants
from zmqservices.web.cors import Cors


@dataclass(frozen=True)
class WebSettings:
    """The settings of a web server. Times are in seconds, sizes in bytes."""

    reuse_port: bool
    max_body: int
    idle_timeout: float
    header_timeout: float
    min_body_rate: int
    drain_timeout: float | None
    max_queued: int
    cors: Cors | None
    max_headers: int
    max_headers_size: int
    max_connections: int

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> WebSettings:
        """Read the settings. Raises ConfigurationError, which quotes the value, for a value of the wrong kind."""
        return cls(
            reuse_port=configuration.boolean(
                config, constants.WEB_SERVER_REUSE_PORT_CONFIG_KEY, constants.DEFAULT_WEB_SERVER_REUSE_PORT
            ),
            max_body=configuration.whole_number(
                config, constants.WEB_SERVER_MAX_BODY_CONFIG_KEY, constants.DEFAULT_WEB_SERVER_MAX_BODY
            ),
            idle_timeout=configuration.seconds(
                config, constants.WEB_SERVER_IDLE_TIMEOUT_CONFIG_KEY, constants.DEFAULT_WEB_SERVER_IDLE_TIMEOUT
            ),
            header_timeout=configuration.seconds(
                config, constants.WEB_SERVER_HEADER_TIMEOUT_CONFIG_KEY, constants.DEFAULT_WEB_SERVER_HEADER_TIMEOUT
            ),
            min_body_rate=configuration.whole_number(
                config, constants.WEB_SERVER_MIN_BODY_RATE_CONFIG_KEY, constants.DEFAULT_WEB_SERVER_MIN_BODY_RATE, minimum=0
            ),
            drain_timeout=configuration.seconds(
                config, constants.DRAIN_TIMEOUT_CONFIG_KEY, constants.DEFAULT_DRAIN_TIMEOUT, allow_none=True
            ),
            max_queued=configuration.whole_number(
                config, constants.MAX_QUEUED_CALLS_CONFIG_KEY, constants.DEFAULT_MAX_QUEUED_CALLS
            ),
            cors=Cors.read(config),
            max_headers=configuration.whole_number(
                config, constants.WEB_SERVER_MAX_HEADERS_CONFIG_KEY, constants.DEFAULT_WEB_SERVER_MAX_HEADERS
            ),
            max_headers_size=configuration.whole_number(
                config, constants.WEB_SERVER_MAX_HEADERS_SIZE_CONFIG_KEY, constants.DEFAULT_WEB_SERVER_MAX_HEADERS_SIZE
            ),
            max_connections=configuration.whole_number(
                config, constants.WEB_SERVER_MAX_CONNECTIONS_CONFIG_KEY, constants.DEFAULT_WEB_SERVER_MAX_CONNECTIONS
            ),
        )
