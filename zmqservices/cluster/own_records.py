"""The records of the instances in this process. They are announced in the directory, and sent to clients that ask this node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import discovery


class OwnRecords:
    """The records of one node. Passes each change to `directory`, and then calls `on_change` inside the reactor."""

    def __init__(self, directory: discovery.Directory) -> None:
        self._directory = directory
        self._records: dict[str, discovery.Record] = {}
        self.on_change: Callable[[], None] | None = None

    def announce(self, record: discovery.Record) -> None:
        """List the record, or replace it by a higher version."""
        self._directory.announce(record)
        self._records[record.instance] = record
        self._changed()

    def withdraw(self, instance: str) -> None:
        """Remove the record."""
        self._directory.withdraw(instance)
        if self._records.pop(instance, None) is not None:
            self._changed()

    def described(self) -> list[dict[str, Any]]:
        """The records as maps of plain values, in the form in which they are sent."""
        return [_plain(record.to_dict()) for record in self._records.values()]

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
