"""Limits for the number of headers of a call or an event, and for their total size.

Rule 1: headers are only checked if the message is so long that they may exceed a limit. Most messages are shorter.
Rule 2: sender and receiver have the same limits. The sender raises an error, and the receiver refuses the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from zmqservices.constants import DEFAULT_MAX_HEADERS, DEFAULT_MAX_HEADERS_SIZE
from zmqservices.exceptions import MessageTooLarge
from zmqservices.wire import codec

#: The smallest size of a header in bytes: an empty name, and a value of one byte.
LEAST_HEADER = 2


class HeaderLimits:
    """At most `most` headers, with at most `size` packed bytes together."""

    __slots__ = ("most", "size", "unchecked")

    def __init__(self, most: int = DEFAULT_MAX_HEADERS, size: int = DEFAULT_MAX_HEADERS_SIZE) -> None:
        self.most = most
        self.size = size
        #: The headers of a message with at most this number of bytes are within the limits.
        self.unchecked = min(most * LEAST_HEADER, size)

    def fit(self, headers: Mapping[Any, Any] | None, within: float = inf) -> bool:
        """Whether headers in a message of `within` bytes are within the limits. They are packed only if they may be too large."""
        if not headers:
            return True
        return len(headers) <= self.most and (within <= self.size or len(codec.pack(headers)) <= self.size)

    def check(self, headers: Mapping[Any, Any] | None, what: str, name: str) -> None:
        """Raises MessageTooLarge for headers beyond a limit. `what` and `name` are for its text: "the call", "maths.add"."""
        if not headers:
            return
        if len(headers) > self.most:
            raise MessageTooLarge(f"{what} {name:.200} has {len(headers):,} headers; max_headers is {self.most:,}")
        size = len(codec.pack(headers))
        if size > self.size:
            raise MessageTooLarge(
                f"the headers (context data) of {what} {name:.200} take {size:,} bytes; max_headers_size is {self.size:,}"
            )
