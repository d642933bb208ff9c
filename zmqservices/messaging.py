"""Converts context data to headers of a message, for extensions that carry calls over another transport.

    headers = encode_to_headers(worker_ctx.context_data)      # {"nameko.language": "da", ...}
    context_data = decode_from_headers(headers)               # {"language": "da", ...}

Nameko's other classes of this module are for a broker. They can be imported and subclassed, for extensions that check whether an
entrypoint is a `Consumer`, but a service that uses one is refused when its container is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, TypeVar, Unpack

from zmqservices.constants import HEADER_PREFIX
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider, Entrypoint, EntrypointOptions, ProviderCollector, SharedExtension
from zmqservices.worker_context import Container, WorkerContext

C = TypeVar("C", bound="Consumer")

__all__ = [
    "Consumer",
    "HeaderDecoder",
    "HeaderEncoder",
    "Publisher",
    "QueueConsumer",
    "QueueConsumerStopped",
    "consume",
    "decode_from_headers",
    "encode_to_headers",
]

_EVENTS = "events that wait for their handlers are zmqservices.events: @event_handler and EventDispatcher"


def encode_to_headers(context_data: Mapping[str, Any], prefix: str = HEADER_PREFIX) -> dict[str, Any]:
    """`{"language": "da"}` as `{"nameko.language": "da"}`. Values that are None are left out with a warning."""
    if any(value is None for value in context_data.values()):
        missing = sorted(key for key, value in context_data.items() if value is None)
        warnings.warn(f"context data that is None makes no header: {', '.join(missing)}", UserWarning, stacklevel=2)
    return {f"{prefix}.{key}": value for key, value in context_data.items() if value is not None}


def decode_from_headers(headers: Mapping[str, Any], prefix: str = HEADER_PREFIX) -> dict[str, Any]:
    """The reverse of `encode_to_headers`. Headers without the prefix keep their names."""
    return {name.removeprefix(f"{prefix}."): value for name, value in headers.items()}


class HeaderEncoder:
    """A mixin that turns a worker's context data into headers."""

    header_prefix = HEADER_PREFIX

    def get_message_headers(self, worker_ctx: WorkerContext) -> dict[str, Any]:
        """The headers for a message that a worker sends, including the call id stack."""
        return encode_to_headers(worker_ctx.context_data, self.header_prefix)


class HasHeaders(Protocol):
    """A message with headers, of any transport."""

    headers: Mapping[str, Any]


class HeaderDecoder:
    """A mixin that reads context data from the `headers` of a message."""

    header_prefix = HEADER_PREFIX

    def unpack_message_headers(self, message: HasHeaders) -> dict[str, Any]:
        """The context data for `spawn_worker`."""
        return decode_from_headers(message.headers, self.header_prefix)


class QueueConsumerStopped(Exception):
    """Never raised here. A stopping service answers Draining, and its callers ask another instance."""


class Consumer(HeaderDecoder, Entrypoint):
    """Nameko's base of entrypoints that consume a queue. Event handlers are Consumers; others are refused when they are bound."""

    def __init__(self, queue: object, requeue_on_error: bool = False, **kwargs: Unpack[EntrypointOptions]) -> None:
        super().__init__(**kwargs)
        self.queue = queue
        self.requeue_on_error = requeue_on_error

    def bind(self: C, container: Container, method_name: str) -> C:  # type: ignore[override]
        """Raises ConfigurationError, because no message would ever come."""
        if self.queue is not None:
            raise ConfigurationError(
                f"{container.service_name}.{method_name} consumes {self.queue!r:.80}; there are no queues to consume, {_EVENTS}"
            )
        return super().bind(container, method_name)


consume = Consumer.decorator


class Publisher(HeaderEncoder, DependencyProvider):
    """Nameko's publisher to a broker. It is refused when it is bound."""

    def __init__(self, exchange: object = None, queue: object = None, declare: object = None, **options: object) -> None:
        super().__init__()
        self.exchange, self.queue, self.declare, self.options = exchange, queue, declare, options

    def bind(self, container: Container, attr_name: str) -> NoReturn:  # type: ignore[override]
        """Raises ConfigurationError, because no message could be sent."""
        raise ConfigurationError(
            f"{container.service_name}.{attr_name} is a {type(self).__name__}; there is no broker to publish to, {_EVENTS}"
        )


class QueueConsumer(ProviderCollector, SharedExtension):
    """Nameko's connection for the consumers of a container. It is refused when it is bound."""

    def bind(self, container: Container) -> NoReturn:
        """Raises ConfigurationError, because there is no broker to connect to."""
        raise ConfigurationError(
            f"{container.service_name} has a {type(self).__name__}; there are no queues to consume, {_EVENTS}"
        )
