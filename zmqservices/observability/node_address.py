"""Where nodes answer those who operate them, and how to ask one node alone.

Internal. It imports little: the command line starts with it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from discovery import Record

#: The endpoint of a record at which a node answers operators, where its service has none for calls.
OPERATORS = "operators"


class NodeAddress(NamedTuple):
    """Where a node answers operators, and its public key where connections are encrypted."""

    endpoint: str
    public_key: str | None

    def only(self, service: str) -> str:
        """The URL of a directory that lists this node alone for `service`, so that no other one is called."""
        # In JSON, since names may have every character.
        return "static:" + json.dumps({service: [f"{self.endpoint}#{self.public_key}" if self.public_key else self.endpoint]})


def node_address(record: Record) -> NodeAddress | None:
    """Where the node of an instance is asked; None where it cannot be."""
    endpoint = record.endpoints.get(OPERATORS) or record.endpoints.get("rpc")
    return NodeAddress(endpoint, record.public_key) if endpoint else None
