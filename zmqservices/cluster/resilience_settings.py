"""What an operator may set about calls that route around trouble, read once from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zmqservices import configuration
from zmqservices import constants as c
from zmqservices.resilience.outliers import OutlierRules


@dataclass(frozen=True)
class ResilienceSettings:
    """Times in seconds. docs/resilience.rst says what each is for."""

    retry_ratio: float
    retries_per_second: float
    outliers: OutlierRules

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ResilienceSettings:
        """Raises ConfigurationError, quoting the value, where one is of the wrong kind."""
        number = configuration.number
        return cls(
            retry_ratio=number(config, c.RPC_RETRY_RATIO_CONFIG_KEY, c.DEFAULT_RPC_RETRY_RATIO),
            retries_per_second=number(config, c.RPC_RETRIES_PER_SECOND_CONFIG_KEY, c.DEFAULT_RPC_RETRIES_PER_SECOND),
            outliers=OutlierRules(
                ejection=number(config, c.RPC_EJECTION_CONFIG_KEY, c.DEFAULT_RPC_EJECTION),
                failures=configuration.whole_number(
                    config, c.RPC_EJECTION_FAILURES_CONFIG_KEY, c.DEFAULT_RPC_EJECTION_FAILURES, minimum=0
                ),
                error_rate=number(config, c.RPC_EJECTION_ERROR_RATE_CONFIG_KEY, c.DEFAULT_RPC_EJECTION_ERROR_RATE),
                latency=number(config, c.RPC_EJECTION_LATENCY_CONFIG_KEY, c.DEFAULT_RPC_EJECTION_LATENCY),
            ),
        )
