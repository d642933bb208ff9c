"""Errors of the shop's clients. The classes are registered, so that callers of a method can catch them."""

from __future__ import annotations

from zmqservices.exceptions import BadRequest, deserialize_to_instance


@deserialize_to_instance
class NotFound(BadRequest):
    """The product or order does not exist."""


@deserialize_to_instance
class AlreadyExists(BadRequest):
    """A product with this id exists already."""
