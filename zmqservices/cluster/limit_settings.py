"""The settings that bound the cost of peers. docs/limits.rst lists every bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zmqservices import constants
from zmqservices.configuration import number, whole_number
from zmqservices.wire.headers import HeaderLimits

#: A HELLO needs fewer bytes, even with a certificate of several names.
LEAST_HELLO_SIZE = 2048


@dataclass(frozen=True)
class LimitSettings:
    """The limits that an operator may set.

    Sizes are in bytes. `max_calls_per_client`: None for no bound but the service's queue.
    """

    max_clients: int = constants.DEFAULT_MAX_CLIENTS
    max_calls_per_client: int | None = constants.DEFAULT_MAX_CALLS_PER_CLIENT
    max_unread_bytes: int = constants.DEFAULT_MAX_UNREAD_BYTES
    handshakes_per_second: int = constants.DEFAULT_HANDSHAKES_PER_SECOND
    max_hello_size: int = constants.DEFAULT_MAX_HELLO_SIZE
    max_faults_per_second: int = constants.DEFAULT_MAX_FAULTS_PER_SECOND
    max_headers: int = constants.DEFAULT_MAX_HEADERS
    max_headers_size: int = constants.DEFAULT_MAX_HEADERS_SIZE
    #: In seconds.
    hello_timeout: float = constants.DEFAULT_HELLO_TIMEOUT

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> LimitSettings:
        """Read the settings. Raises ConfigurationError, which quotes the value, for anything but a number of at least 1."""
        c = constants
        most_calls = config.get(c.MAX_CALLS_PER_CLIENT_CONFIG_KEY)
        return cls(
            whole_number(config, c.MAX_CLIENTS_CONFIG_KEY, c.DEFAULT_MAX_CLIENTS),
            None if most_calls is None else whole_number(config, c.MAX_CALLS_PER_CLIENT_CONFIG_KEY, 1),
            whole_number(config, c.MAX_UNREAD_BYTES_CONFIG_KEY, c.DEFAULT_MAX_UNREAD_BYTES),
            whole_number(config, c.HANDSHAKES_PER_SECOND_CONFIG_KEY, c.DEFAULT_HANDSHAKES_PER_SECOND),
            whole_number(config, c.MAX_HELLO_SIZE_CONFIG_KEY, c.DEFAULT_MAX_HELLO_SIZE, minimum=LEAST_HELLO_SIZE),
            whole_number(config, c.MAX_FAULTS_PER_SECOND_CONFIG_KEY, c.DEFAULT_MAX_FAULTS_PER_SECOND),
            whole_number(config, c.MAX_HEADERS_CONFIG_KEY, c.DEFAULT_MAX_HEADERS),
            whole_number(config, c.MAX_HEADERS_SIZE_CONFIG_KEY, c.DEFAULT_MAX_HEADERS_SIZE),
            number(config, c.HELLO_TIMEOUT_CONFIG_KEY, c.DEFAULT_HELLO_TIMEOUT, minimum=1.0),
        )

    @property
    def headers(self) -> HeaderLimits:
        return HeaderLimits(self.max_headers, self.max_headers_size)
