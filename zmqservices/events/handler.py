"""The @event_handler decorator."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any, Unpack

from zmqservices import configuration, constants
from zmqservices.cluster.events.consumer import EventConsumer
from zmqservices.cluster.events.incoming_event import IncomingEvent
from zmqservices.cluster.events.subscription import (
    BROADCAST,
    KINDS,
    NEW,
    SERVICE_POOL,
    STARTS,
    Subscription,
    group_name,
)
from zmqservices.events.received import ReceivedEvent
from zmqservices.events.server import EventServer
from zmqservices.exceptions import (
    ConfigurationError,
    ContainerBeingKilled,
    WorkerCancelled,
    serialize,
)
from zmqservices.extensions import EntrypointOptions
from zmqservices.hosting.outcomes import is_overridden, never_began, outcome_of
from zmqservices.log_helpers import format_exception
from zmqservices.messaging import Consumer
from zmqservices.wire import codec
from zmqservices.wire.messages import Event
from zmqservices.worker_context import ExcInfo, Outcome, WorkerContext

__all__ = ["EventHandler", "EventHandlerConfigurationError", "event_handler"]

_log = logging.getLogger(__name__)

ON_ERROR = ("retry", "drop")


class EventHandlerConfigurationError(ConfigurationError):
    """The arguments of an @event_handler are wrong, or contradict each other."""


class EventHandler(Consumer):
    """Runs a method for the events of `source_service` whose type matches the pattern `event_type` (`order.*`, `#`).

    `handler_type`: with SERVICE_POOL, each event goes to one instance of this service; with SINGLETON, to one handler in the
    whole cluster; with BROADCAST, to every instance.
    `reliable_delivery`: at-least-once delivery. An event waits in the publisher's journal while no handler is connected, and is
    delivered again if its handler fails (see docs/events.rst). A reliable BROADCAST needs its own `broadcast_identifier`.
    `requeue_on_error`: a failed event is delivered again even if `events_on_error` is "drop".
    `start`: the first events of a group that the publisher does not know: "new" ones, or the "earliest" that are kept.
    `max_deliveries`: deliveries after which an event becomes a dead letter; 0 for no limit, None for the publisher's setting.
    `prefetch`: events that one publisher may have in flight here; None for the number of workers.
    """

    server = EventServer()
    takes_generators = False

    def __init__(
        self,
        source_service: str,
        event_type: str,
        handler_type: str = SERVICE_POOL,
        reliable_delivery: bool = True,
        requeue_on_error: bool = False,
        start: str = NEW,
        max_deliveries: int | None = None,
        prefetch: int | None = None,
        **kwargs: Unpack[EntrypointOptions],
    ) -> None:
        super().__init__(None, requeue_on_error, **kwargs)
        if handler_type not in KINDS:
            raise EventHandlerConfigurationError(f"handler_type is {handler_type!r}; one of {', '.join(KINDS)} is needed")
        if start not in STARTS:
            raise EventHandlerConfigurationError(f"start is {start!r}; {' or '.join(STARTS)} is needed")
        for name, value, least in (("max_deliveries", max_deliveries, 0), ("prefetch", prefetch, 1)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise EventHandlerConfigurationError(f"{name} is {value!r}; a whole number from {least} up is needed")
        for name, text in (("source_service", source_service), ("event_type", event_type)):
            if not isinstance(text, str) or "\0" in text:
                raise EventHandlerConfigurationError(f"{name} is {text!r}; a text is needed")
        self.source_service = source_service
        self.event_type = event_type
        self.handler_type = handler_type
        self.reliable_delivery = reliable_delivery
        self.first = start
        self.max_deliveries = max_deliveries
        self.prefetch = prefetch
        self._own_identifier = os.urandom(8).hex()
        self._consumer: EventConsumer | None = None

    # Properties are read when extensions are bound, so a broadcast that cannot be reliable fails when its container is made.
    @property
    def broadcast_identifier(self) -> str:
        """The identifier of this instance in a BROADCAST. By default it is new at each start.

        For a reliable BROADCAST, override it with a text that is the same after a restart and different in each instance, such
        as the host's name.
        """
        if self.handler_type == BROADCAST and self.reliable_delivery:
            raise EventHandlerConfigurationError(
                f"a BROADCAST with reliable_delivery needs an EventHandler with a `broadcast_identifier` that is the same "
                f"after a restart; override it, or give reliable_delivery=False ({self.source_service}: {self.event_type})"
            )
        return self._own_identifier

    @property
    def subscription(self) -> Subscription | None:
        """The events that this handler subscribes to; None on a declaration, which belongs to no service."""
        if not self.is_bound():
            return None
        identifier = self.broadcast_identifier if self.handler_type == BROADCAST and self.reliable_delivery else ""
        number = self.server.membership.number()
        if identifier and number > 1:
            # Instances in one process may have the same identifier, such as their host. Each must still get its copy.
            identifier = f"{identifier}#{number}"
        group = group_name(
            self.container.service_name, self.method_name, self.source_service, self.event_type, self.handler_type, identifier
        )
        return Subscription(
            self.source_service, self.event_type, group, self.handler_type, bool(self.reliable_delivery), self.first,
            self.max_deliveries,
        )  # fmt: skip

    def listed(self) -> dict[str, Any]:
        group = self.subscription
        return {
            "kind": f"event, {self.handler_type}" + ("" if self.reliable_delivery else ", best effort"),
            "what": f"{self.event_type} of {self.source_service}",
            "group": "" if group is None else group.group,
        }

    def details(self) -> dict[str, Any]:
        return {
            "source": self.source_service,
            "type": self.event_type,
            "handler_type": self.handler_type,
            "reliable": bool(self.reliable_delivery),
        }

    # --- life cycle --------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        config = self.container.config
        on_error = configuration.text(config, constants.EVENTS_ON_ERROR_CONFIG_KEY, constants.DEFAULT_EVENTS_ON_ERROR)
        if on_error not in ON_ERROR:
            raise ConfigurationError(
                f"{constants.EVENTS_ON_ERROR_CONFIG_KEY} is {on_error!r}; {' or '.join(map(repr, ON_ERROR))} is needed"
            )
        self._retries = self.requeue_on_error or on_error == "retry"
        self._submit = self.container.submit
        self._answer = self._answer_by_override if is_overridden(self, EventHandler) else self.handle_result
        self.server.register_provider(self)

    def start(self) -> None:
        """From here on events arrive. Returns when all listed publishers have confirmed the subscription, or after a while."""
        self._consumer = self.server.begin(self)

    def stop(self) -> None:
        """Take no more events. Events already taken are handled, because the container waits for their workers."""
        if self._consumer is not None:
            self._consumer.leave()
        self.server.unregister_provider(self)

    def kill(self) -> None:
        """Stop at once. Unanswered events go to other members."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.end()

    # --- events: runs inside the node's reactor ------------------------------------------------------------------------

    def take(self, event: IncomingEvent) -> WorkerContext | None:
        """Queue an event for a worker. Returns the worker's context; None if it cannot be queued."""
        message = event.message
        if not event.is_reliable and not self.server.has_room_for(event):
            self.server.count_missed(message)
            return None
        try:
            data = self._decode(message)
        except Exception as exc:
            _log.error("event %s of %s cannot be read: %s", message.type, message.source, exc)
            event.failed(serialize(exc))
            self.server.handled(event)
            return None
        headers = message.headers
        # Removed from the headers, because events that the handler itself dispatches have other ids.
        outbox_id = headers.pop(constants.OUTBOX_ID_CONTEXT_KEY, None) if headers else None
        try:
            worker_ctx = self._submit(self, (data,), {}, headers, functools.partial(self._answer, event))
            worker_ctx.event = ReceivedEvent(message, event.is_reliable, outbox_id)
        except ContainerBeingKilled:
            event.failed(None)
            self.server.handled(event)
            return None
        return worker_ctx

    def take_and_name_peer(self, event: IncomingEvent) -> None:
        """As `take`, but with SECURITY: tells the worker the name of the publisher."""
        # Not in `take`, so that events without SECURITY are not slowed down. The worker begins later, at the next flush.
        worker_ctx = self.take(event)
        if worker_ctx is not None:
            worker_ctx.peer = event.peer

    def _decode(self, message: Event) -> Any:
        if message.serializer is None:
            return message.body
        if message.serializer == "msgpack":
            return codec.unpack(message.body)
        return self.server.membership.serializers(message.serializer).loads(message.body)

    def handle_result(
        self, event: IncomingEvent, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None
    ) -> Outcome:
        """Called by the worker with the outcome: the event is answered before dependency providers see the result."""
        self.server.handled(event)
        if exc_info is None:
            event.done()
        elif isinstance(exc_info[1], (ContainerBeingKilled, WorkerCancelled)):
            event.failed(None)
        elif self._retries:
            event.failed(described(exc_info[1]))
        else:
            event.done()
        return result, exc_info

    def _answer_by_override(
        self, event: IncomingEvent, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None
    ) -> Outcome:
        if not never_began(worker_ctx):
            result, exc_info = outcome_of(self, event, worker_ctx, result, exc_info)
        # Does nothing for an event that the override has answered.
        return EventHandler.handle_result(self, event, worker_ctx, result, exc_info)


def described(exc: BaseException) -> dict[str, Any]:
    """The error in the form that is stored with a dead letter: only texts, even if its arguments cannot be serialized.

    Its traceback begins with the application's own code, as in the log.
    """
    try:
        error = {**serialize(exc), "traceback": format_exception(exc, hides_own_frames=True) + "\n"}
        codec.pack(error)
        return error
    except Exception as failure:
        name = type(exc).__name__
        return {"exc_type": name, "exc_path": "", "exc_args": [], "value": f"[cannot be described: {failure!r}]"}


event_handler = EventHandler.decorator
