"""The address at which a node answers operators, and how to ask one node alone.

Internal. It imports little, because the command line imports it at its start.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from discovery import Record

#: The key of a record's endpoint for operators. Only records whose service has no endpoint for calls have it.
OPERATORS = "operators"


class NodeAddress(NamedTuple):
    """The address at which a node answers operators, and its public key if connections are encrypted."""

    endpoint: str
    public_key: str | None

    def only(self, service: str) -> str:
        """The URL of a directory that lists only this node for `service`, so that no other node is called."""
        # JSON, because a name may have any character.
        return "static:" + json.dumps({service: [f"{self.endpoint}#{self.public_key}" if self.public_key else self.endpoint]})


def node_address(record: Record) -> NodeAddress | None:
    """The address at which the node of an instance answers operators; None if it has none."""
    endpoint = record.endpoints.get(OPERATORS) or record.endpoints.get("rpc")
    return NodeAddress(endpoint, record.public_key) if endpoint else None
