"""Here is nothing to publish to: whatever is imported from this name, but for an error, says what to use instead."""

from zmqservices.removed import NO_BROKER, gone

__all__ = ["UndeliverableMessage"]


class UndeliverableMessage(Exception):
    """Never raised: a call that nobody can take raises `zmqservices.exceptions.UnknownService`."""


__getattr__ = gone(
    __name__,
    {
        "Publisher": "there is no broker to publish to; use zmqservices.events.EventDispatcher, or "
        "zmqservices.standalone.events.event_dispatcher outside of a service",
    },
    all_others=NO_BROKER,
)
