"""The directory record of one instance in this process: its changes, and how long it stays listed.

An instance is listed while it has a reason: methods to call, subscriptions to events, other entrypoints, or a candidacy for
leadership. Its record is withdrawn with the last reason.
"""

from __future__ import annotations

import os
import platform
from enum import Enum
from typing import Any, Protocol

import discovery
from discovery.security.keys import Keys
from discovery.security.permissions import may_register
from zmqservices.cluster.leadership import candidacies_of
from zmqservices.exceptions import ConfigurationError
from zmqservices.probes import UNWATCHED, Watched


class Reason(Enum):
    """The reasons for which an instance is listed. Candidacies are not among them, because the record itself shows them."""

    METHODS = "methods"
    SUBSCRIPTIONS = "subscriptions"
    ENTRYPOINTS = "entrypoints"


class RecordDirectory(Protocol):
    """Where records are announced; a `discovery.Directory`."""

    def announce(self, record: discovery.Record) -> None:
        """List the record, or replace it by a higher version."""

    def withdraw(self, instance: str) -> None:
        """Remove the record."""


class InstanceRecord:
    """The record of one instance.

    `incarnation`: higher for each later instance of the node. `ttl`: seconds. `keys`: the node's keys, if it has any.
    """

    def __init__(
        self,
        directory: RecordDirectory,
        service: str,
        instance: str,
        node: str,
        incarnation: int,
        namespace: str,
        ttl: float,
        watched: Watched = UNWATCHED,
        zone: str | None = None,
        weight: float = 1.0,
        keys: Keys | None = None,
    ) -> None:
        self._keys = keys
        self._directory = directory
        self._service = service
        self._instance = instance
        self._node = node
        self._incarnation = incarnation
        self._namespace = namespace
        self._ttl = ttl
        self._watched = watched
        self._zone = zone
        self._weight = weight
        self._reasons: set[Reason] = set()
        #: The announced record; None while the instance is not listed.
        self.current: discovery.Record | None = None

    @property
    def endpoints(self) -> dict[str, str]:
        """A copy of the announced endpoints."""
        return {} if self.current is None else dict(self.current.endpoints)

    @property
    def tags(self) -> dict[str, Any]:
        """The announced tags. They must not be changed in place."""
        return {} if self.current is None else self.current.tags

    def announce(self, reason: Reason | None = None, **changes: object) -> discovery.Record:
        """Change fields of the record, and list the instance if it is not listed.

        It stays listed until each reason is removed.
        """
        if reason is not None:
            self._reasons.add(reason)
        record = self._first(changes) if self.current is None else self.current.replace(**changes)
        self.current = record
        self._directory.announce(record)
        probes = self._watched.probes
        if probes is not None and probes.record_announced is not None:
            probes.record_announced(self._service, self._instance, record.state)
        return record

    def remove(self, reason: Reason | None = None, **changes: Any) -> None:
        """Remove a reason and change fields of the record. Withdraws the record if that was the last reason."""
        if reason is not None:
            self._reasons.discard(reason)
        if self.current is None:
            return
        if self._reasons or candidacies_of(self.current.replace(**changes)):
            self.announce(**changes)
        else:
            self.current = None
            # A later record of this instance must outrank the withdrawn one.
            self._incarnation += 1
            self._directory.withdraw(self._instance)
            probes = self._watched.probes
            if probes is not None and probes.record_withdrawn is not None:
                probes.record_withdrawn(self._service, self._instance)

    def _first(self, fields: dict[str, Any]) -> discovery.Record:
        if self._keys is not None:
            verdict = may_register(self._keys.certificate, self._service)
            if not verdict:
                raise ConfigurationError(f"this process must not register {self._service!r}: {verdict.rule}")
            fields = {"public_key": self._keys.pair.public.hex(), **fields}
        return discovery.Record(
            service=self._service,
            instance=self._instance,
            node=self._node,
            incarnation=self._incarnation,
            version=1,
            namespace=self._namespace,
            ttl=self._ttl,
            zone=self._zone,
            weight=self._weight,
            host=platform.node(),
            pid=os.getpid(),
            **fields,
        )
