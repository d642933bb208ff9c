"""Here is no AMQP: whatever is imported from this name says what to use instead."""

from zmqservices.gone import NO_BROKER, gone

__getattr__ = gone(
    __name__,
    {
        "UndeliverableMessage": "a call that nobody can take raises zmqservices.exceptions.UnknownService",
        "verify_amqp_uri": "there is no broker to verify; `zmqservices ls` shows who is there",
    },
    all_others=NO_BROKER,
)
