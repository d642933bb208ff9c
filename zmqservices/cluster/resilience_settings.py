"""The settings for balancing, retries, ejection and hedging of calls, read once from a configuration."""

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
    """The settings for resilient calls. Times are in seconds. docs/resilience.rst explains each."""

    retry_ratio: float
    retries_per_second: float
    outliers: OutlierRules
    #: The preferences of this process as a caller. Its instances also announce its zone.
    preferences: Preferences
    #: The weight that its instances announce.
    weight: float
    #: Whether calls of all idempotent methods are hedged, and not only those for which the service or the proxy asks.
    hedge: bool

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ResilienceSettings:
        """Read the settings. Raises ConfigurationError, which quotes the value, for a value of the wrong kind."""
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
