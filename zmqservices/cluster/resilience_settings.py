"""What an operator may set about calls that route around trouble, read once from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zmqservices import configuration
from zmqservices import constants as c
from zmqservices.resilience.outliers import OutlierRules
from zmqservices.resilience.preferences import Preferences


@dataclass(frozen=True)
class ResilienceSettings:
    """Times in seconds. docs/resilience.rst says what each is for."""

    retry_ratio: float
    retries_per_second: float
    outliers: OutlierRules
    #: What this process prefers as a caller, with its own zone, which its instances announce as well.
    preferences: Preferences
    #: Announced of its instances.
    weight: float
    #: Whether calls of all idempotent methods are hedged, and not only where the service or the proxy says so.
    hedge: bool

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ResilienceSettings:
        """Raises ConfigurationError, quoting the value, where one is of the wrong kind."""
        number = configuration.number
        return cls(
            retry_ratio=number(config, c.RPC_RETRY_RATIO_CONFIG_KEY, c.DEFAULT_RPC_RETRY_RATIO),
            retries_per_second=number(config, c.RPC_RETRIES_PER_SECOND_CONFIG_KEY, c.DEFAULT_RPC_RETRIES_PER_SECOND),
            hedge=configuration.boolean(config, c.RPC_HEDGE_CONFIG_KEY, c.DEFAULT_RPC_HEDGE),
            weight=number(config, c.WEIGHT_CONFIG_KEY, c.DEFAULT_WEIGHT),
            preferences=Preferences(
                zone=configuration.text(config, c.ZONE_CONFIG_KEY, None),
                distance=number(config, c.RPC_ZONE_PREFERENCE_CONFIG_KEY, c.DEFAULT_RPC_ZONE_PREFERENCE),
                slow_start=number(config, c.RPC_SLOW_START_CONFIG_KEY, c.DEFAULT_RPC_SLOW_START),
            ),
            outliers=OutlierRules(
                ejection=number(config, c.RPC_EJECTION_CONFIG_KEY, c.DEFAULT_RPC_EJECTION),
                failures=configuration.whole_number(
                    config, c.RPC_EJECTION_FAILURES_CONFIG_KEY, c.DEFAULT_RPC_EJECTION_FAILURES, minimum=0
                ),
                error_rate=number(config, c.RPC_EJECTION_ERROR_RATE_CONFIG_KEY, c.DEFAULT_RPC_EJECTION_ERROR_RATE),
                latency=number(config, c.RPC_EJECTION_LATENCY_CONFIG_KEY, c.DEFAULT_RPC_EJECTION_LATENCY),
            ),
        )
