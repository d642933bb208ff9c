"""The injected dispatcher: a service's way to tell what happened."""

from __future__ import annotations

from typing import Any

from zmqservices import constants
from zmqservices.cluster.events.source import Source
from zmqservices.events.headers import FromWorker, encoded
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider
from zmqservices.membership import Membership

__all__ = ["Dispatcher", "EventDispatcher"]


class Dispatcher(FromWorker):
    """What a worker has in its hands: `dispatch(event_type, event_data, key=None)`, or simply called."""

    __slots__ = ("_source", "_serializer", "_is_reliable")

    def __init__(self, source: Source, worker_ctx: Any, serializer: Any, is_reliable: bool) -> None:
        super().__init__(worker_ctx)
        self._source = source
        self._serializer = serializer
        self._is_reliable = is_reliable

    def __call__(self, event_type: str, event_data: Any = None, key: str | None = None) -> None:
        """Tell that something happened. Returns once the event is on disk, whoever is there to hear of it.

        Events of one `key` are handled one after the other, in the order of their dispatch. Raises
        UnserializableValueError, MessageTooLarge, JournalFull or JournalError, and then nobody hears of it.
        """
        check_type(event_type)
        body, name = encoded(self._serializer, event_data)
        self._source.dispatch(event_type, body, self._headers(), name, key, self._is_reliable)

    dispatch = __call__


def check_type(event_type: Any) -> None:
    """Raise ValueError unless it can be the type of an event."""
    if not isinstance(event_type, str) or "\0" in event_type:
        raise ValueError(f"the event type is {event_type!r}; a text such as 'order.paid' is needed")


class EventDispatcher(DependencyProvider):
    """Injects a dispatcher of the service's own events.

    `reliable=False`: events are not written to the journal, and reach who is there at that moment, once at most. So does
    `delivery_mode=NON_PERSISTENT`, as Nameko applications say it. Other publisher options spoke to a broker; they are
    accepted and mean nothing.
    """

    membership = Membership()

    def __init__(self, *, reliable: bool = True, **options: Any) -> None:
        super().__init__()
        if not isinstance(reliable, bool):
            raise ConfigurationError(f"EventDispatcher(reliable={reliable!r}): True or False is needed")
        self.is_reliable = reliable and options.get("delivery_mode") != constants.NON_PERSISTENT
        self.options = options

    def setup(self) -> None:
        """Open the journal and announce that events come from here: whoever handles them connects now.

        Before anything starts: from then on calls may arrive, and their methods dispatch.
        """
        self._source = self.membership.join().publisher.open(self.container.service_name)

    def get_dependency(self, worker_ctx: Any) -> Dispatcher:
        """The headers are those of this moment: what the worker changes later goes along with its calls alone."""
        return Dispatcher(self._source, worker_ctx, self.membership.serializer, self.is_reliable)
