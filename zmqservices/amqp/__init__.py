"""There is no AMQP here.

Importing one of Nameko's names raises an ImportError that says what to use; one exception class exists.
"""

from zmqservices.amqp.publish import UndeliverableMessage
from zmqservices.removed import NO_BROKER, removed_names

__all__ = ["UndeliverableMessage"]

__getattr__ = removed_names(
    __name__,
    {
        "verify_amqp_uri": "there is no broker to verify; `zmqservices ls` shows who is there",
    },
    all_others=NO_BROKER,
)
