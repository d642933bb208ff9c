"""What a client can do wrong; registered, so that callers of a method can catch it by its class."""

from __future__ import annotations

from zmqservices.exceptions import BadRequest, deserialize_to_instance


@deserialize_to_instance
class NotFound(BadRequest):
    """There is no such product, or no such order."""


@deserialize_to_instance
class AlreadyExists(BadRequest):
    """There is one already."""
