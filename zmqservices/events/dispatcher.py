"""The injected dispatcher, with which a service publishes its events."""

from __future__ import annotations

from zmqservices import constants
from zmqservices.cluster.events.source import Source
from zmqservices.events.headers import WithWorkerHeaders, encoded
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider
from zmqservices.membership import Membership
from zmqservices.wire.serializers import Serializer
from zmqservices.worker_context import WorkerContext

__all__ = ["Dispatcher", "EventDispatcher"]


class Dispatcher(WithWorkerHeaders):
    """The dispatcher of one worker. Call it, or its method `dispatch`, to publish an event."""

    __slots__ = ("_source", "_serializer", "_is_reliable")

    def __init__(
        self, source: Source, worker_ctx: WorkerContext, serializer: Serializer | None, is_reliable: bool
    ) -> None:
        super().__init__(worker_ctx)
        self._source = source
        self._serializer = serializer
        self._is_reliable = is_reliable

    def __call__(self, event_type: str, event_data: object = None, key: str | None = None) -> None:
        """Publish an event. A reliable event is on disk when this returns, even if no handler is connected.

        Events of one `key` are handled one after the other, in the order of their dispatch. Raises
        UnserializableValueError, MessageTooLarge, JournalFull or JournalError, and then no handler gets the event.
        """
        check_type(event_type)
        body, name = encoded(self._serializer, event_data)
        self._source.dispatch(event_type, body, self._headers(), name, key, self._is_reliable)

    dispatch = __call__


def check_type(event_type: object) -> None:
    """Raise ValueError unless `event_type` can be the type of an event."""
    if not isinstance(event_type, str) or "\0" in event_type:
        raise ValueError(f"the event type is {event_type!r}; a text such as 'order.paid' is needed")


class EventDispatcher(DependencyProvider):
    """Injects a dispatcher of the service's own events.

    `reliable=False`: events are not written to the journal, and connected handlers get them at most once. Nameko's
    `delivery_mode=NON_PERSISTENT` means the same. Nameko's other publisher options configure a broker; they are accepted and
    ignored.
    """

    membership = Membership()

    def __init__(self, *, reliable: bool = True, **options: object) -> None:
        super().__init__()
        if not isinstance(reliable, bool):
            raise ConfigurationError(f"EventDispatcher(reliable={reliable!r}): True or False is needed")
        self.is_reliable = reliable and options.get("delivery_mode") != constants.NON_PERSISTENT
        self.options = options

    def setup(self) -> None:
        """Open the journal and announce the source, so that handlers connect.

        Done before any extension starts, because from then on calls may arrive, and their methods may dispatch.
        """
        self._source = self.membership.join().publisher.open(self.container.service_name)

    def get_dependency(self, worker_ctx: WorkerContext) -> Dispatcher:
        """A dispatcher with a copy of the worker's context data. Later changes of the data are sent with calls only."""
        return Dispatcher(self._source, worker_ctx, self.membership.serializer, self.is_reliable)
