"""There is no RabbitMQ here. Importing a name raises an ImportError that says what to use instead."""

from zmqservices.removed import removed_names

__all__: list[str] = []

__getattr__ = removed_names(
    __name__,
    {"Client": "there is no broker to manage; `zmqservices ls` and `discovery.open_directory` show who is there"},
    all_others="there is no broker to manage; zmqservices.testing.network is for connections that fail",
)
