"""How many headers a call or an event may have, and how large they may be together.

Rule 1: a message is looked at more closely only where it is so long that its headers may be beyond a limit. Most are not.
Rule 2: the same rule holds at the sender, which raises, and at the receiver, which refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zmqservices.constants import DEFAULT_MAX_HEADERS, DEFAULT_MAX_HEADERS_SIZE
from zmqservices.exceptions import MessageTooLarge
from zmqservices.wire import codec

#: Bytes that a header takes at least: an empty name, and a value of one byte.
LEAST_HEADER = 2


class HeaderLimits:
    """At most `most` headers of `size` bytes together, as they travel."""

    __slots__ = ("most", "size", "unchecked")

    def __init__(self, most: int = DEFAULT_MAX_HEADERS, size: int = DEFAULT_MAX_HEADERS_SIZE) -> None:
        self.most = most
        self.size = size
        #: The headers of a message that has no more bytes than this are within the limits.
        self.unchecked = min(most * LEAST_HEADER, size)

    def fit(self, headers: Mapping[Any, Any] | None, within: int) -> bool:
        """Whether headers in a message of `within` bytes are within the limits. They are packed only if they may be too large."""
        if not headers:
            return True
        return len(headers) <= self.most and (within <= self.size or len(codec.pack(headers)) <= self.size)

    def check(self, headers: Mapping[Any, Any] | None, what: str, name: str) -> None:
        """Raises MessageTooLarge; `what` and `name` say whose headers they are: "the call", "maths.add"."""
        if not headers:
            return
        if len(headers) > self.most:
            raise MessageTooLarge(f"{what} {name:.200} has {len(headers):,} headers; max_headers is {self.most:,}")
        size = len(codec.pack(headers))
        if size > self.size:
            raise MessageTooLarge(
                f"the headers (context data) of {what} {name:.200} take {size:,} bytes; max_headers_size is {self.size:,}"
            )
