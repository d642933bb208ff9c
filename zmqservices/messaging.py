"""Context data as headers of a message, for extensions that carry calls over a transport of their own.

    headers = encode_to_headers(worker_ctx.context_data)      # {"nameko.language": "da", ...}
    context_data = decode_from_headers(headers)               # {"language": "da", ...}

What else Nameko has under this name spoke to a broker, and is gone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from zmqservices.constants import HEADER_PREFIX
from zmqservices.gone import gone

_EVENTS = "events that wait for their handlers are zmqservices.events: @event_handler and EventDispatcher"

__getattr__ = gone(
    __name__,
    {
        "Publisher": f"there is no broker to publish to; {_EVENTS}",
        "Consumer": f"there are no queues to consume; {_EVENTS}",
        "consume": f"there are no queues to consume; {_EVENTS}",
        "QueueConsumer": f"there are no queues to consume; {_EVENTS}",
        "QueueConsumerStopped": "nothing consumes a queue; a service that stops raises "
        "zmqservices.exceptions.Draining at its callers, who are moved to another instance",
    },
)


def encode_to_headers(context_data: Mapping[str, Any], prefix: str = HEADER_PREFIX) -> dict[str, Any]:
    """`{"language": "da"}` as `{"nameko.language": "da"}`. What is None is left out, with a warning."""
    if any(value is None for value in context_data.values()):
        missing = sorted(key for key, value in context_data.items() if value is None)
        warnings.warn(f"context data that is None makes no header: {', '.join(missing)}", UserWarning, stacklevel=2)
    return {f"{prefix}.{key}": value for key, value in context_data.items() if value is not None}


def decode_from_headers(headers: Mapping[str, Any], prefix: str = HEADER_PREFIX) -> dict[str, Any]:
    """The reverse. Headers without the prefix are kept under their own names."""
    return {name.removeprefix(f"{prefix}."): value for name, value in headers.items()}


class HeaderEncoder:
    """A mixin: a worker's context data as headers."""

    header_prefix = HEADER_PREFIX

    def get_message_headers(self, worker_ctx: Any) -> dict[str, Any]:
        """The headers for a message that a worker sends, the call id stack among them."""
        return encode_to_headers(worker_ctx.context_data, self.header_prefix)


class HeaderDecoder:
    """A mixin: the context data in the `headers` of a message."""

    header_prefix = HEADER_PREFIX

    def unpack_message_headers(self, message: Any) -> dict[str, Any]:
        """What `spawn_worker` takes as `context_data`."""
        return decode_from_headers(message.headers, self.header_prefix)
