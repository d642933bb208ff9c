"""What tests of events play with: services that dispatch when they are told to, and handlers that write down what came."""

from tests.stage import Context, Gate, until
from zmqservices.events import EventDispatcher
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import rpc

__all__ = ["Context", "Gate", "Notes", "Orders", "until"]


class Orders:
    """Dispatches what it is told to."""

    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def tell(self, event_type, data=None, key=None):
        self.dispatch(event_type, data, key=key)

    @rpc
    def tell_all(self, event_type, count):
        for number in range(count):
            self.dispatch(event_type, number)


class Notes(DependencyProvider):
    """Injects a list that outlives workers and containers: `notes = Notes()` on the class, and `notes.lines` for the test."""

    def __init__(self, lines=None):
        self.lines = [] if lines is None else lines

    def bind(self, container, attr_name):
        bound = super().bind(container, attr_name)
        bound.lines = self.lines
        return bound

    def get_dependency(self, worker_ctx):
        return self.lines

    def wait_for(self, count):
        until(lambda: len(self.lines) >= count)
        return self.lines
