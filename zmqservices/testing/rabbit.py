"""Here is no RabbitMQ to manage: whatever is imported from this name says what to use instead."""

from zmqservices.removed import gone

__all__: list[str] = []

__getattr__ = gone(
    __name__,
    {"Client": "there is no broker to manage; `zmqservices ls` and `discovery.open_directory` show who is there"},
    all_others="there is no broker to manage; zmqservices.testing.network is for connections that fail",
)
