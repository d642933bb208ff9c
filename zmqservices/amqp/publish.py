"""There is no broker here. Importing a name raises an ImportError that says what to use; one exception class exists."""

from zmqservices.removed import NO_BROKER, removed_names

__all__ = ["UndeliverableMessage"]


class UndeliverableMessage(Exception):
    """Never raised. A call to a service without instances raises `zmqservices.exceptions.UnknownService`."""


__getattr__ = removed_names(
    __name__,
    {
        "Publisher": "there is no broker to publish to; use zmqservices.events.EventDispatcher, or "
        "zmqservices.standalone.events.event_dispatcher outside of a service",
    },
    all_others=NO_BROKER,
)
