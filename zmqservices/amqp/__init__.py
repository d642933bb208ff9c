"""Here is no AMQP: whatever is imported from this name, but for an error, says what to use instead."""

from zmqservices.amqp.publish import UndeliverableMessage
from zmqservices.removed import NO_BROKER, gone

__all__ = ["UndeliverableMessage"]

__getattr__ = gone(
    __name__,
    {
        "verify_amqp_uri": "there is no broker to verify; `zmqservices ls` shows who is there",
    },
    all_others=NO_BROKER,
)
