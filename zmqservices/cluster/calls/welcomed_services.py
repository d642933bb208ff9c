"""Reads the services that a node lists in its WELCOME. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zmqservices.wire.messages import WAITING


class WelcomedServices:
    """The services in the `info` of one WELCOME. A node sends WELCOME again whenever a service comes or goes."""

    def __init__(self, info: Mapping[Any, Any] | None) -> None:
        #: None if the node lists no services, and so serves all of them.
        self._services: Mapping[Any, Any] | None = None if info is None else info.get("services") or {}
        #: Whether the node's answers say how many calls wait there.
        self.tells_waiting = info is not None and info.get(WAITING) is True
        #: The methods that may be repeated, by service.
        self.idempotent: dict[str, frozenset[str]] = {
            name: frozenset(entry.get("idempotent") or ())
            for name, entry in (self._services or {}).items()
            if isinstance(entry, dict)
        }

    def serves(self, service: str, instance: str | None) -> bool:
        """Whether the node takes calls for `service`; with `instance`, whether that instance of it does."""
        if self._services is None:
            return True
        if service not in self._services:
            return False
        entry = self._services[service]
        if not isinstance(entry, dict):
            return True
        # Not every node sends the ids of its instances.
        named = entry.get("instances")
        return not entry.get("draining") and (instance is None or not isinstance(named, list) or instance in named)
