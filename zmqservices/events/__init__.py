"""Events: a service publishes that something happened, and other services handle it.

    class Orders:
        name = "orders"
        dispatch = EventDispatcher()

        @rpc
        def pay(self, number):
            self.dispatch("order.paid", {"number": number})

    class Mails:
        name = "mails"

        @event_handler("orders", "order.*")
        def send(self, payload):
            ...

docs/events.rst says which delivery is guaranteed.
"""

from zmqservices.cluster.events.subscription import BROADCAST, SERVICE_POOL, SINGLETON
from zmqservices.events.dispatcher import EventDispatcher
from zmqservices.events.handler import EventHandler, EventHandlerConfigurationError, event_handler

__all__ = [
    "BROADCAST",
    "SERVICE_POOL",
    "SINGLETON",
    "EventDispatcher",
    "EventHandler",
    "EventHandlerConfigurationError",
    "event_handler",
]
