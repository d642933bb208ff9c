"""What a call or an event brought is freed when its worker is over, whatever it had in its hands."""

import gc
import logging
import weakref
from contextlib import nullcontext

import pytest

from tests.stage import until
from zmqservices.dependency_providers import Config, Logger
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import MethodNotFound, RemoteError
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import ClusterRpc, RpcProxy, rpc


class Witness(DependencyProvider):
    """Remembers every worker, and keeps none."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def get_dependency(self, worker_ctx):
        self.seen.append(weakref.ref(worker_ctx))

    def bind(self, container, attr_name):
        bound = super().bind(container, attr_name)
        bound.seen = self.seen
        return bound


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b


@pytest.fixture
def gateway(serve):
    class Gateway:
        name = "gateway"

        maths = RpcProxy("maths")
        everybody = ClusterRpc()
        dispatch = EventDispatcher()
        log = Logger()
        config = Config()
        witness = Witness()

        @rpc
        def idle(self, number):
            return number

        @rpc
        def ask(self, number):
            return self.maths.add(number, 1)

        @rpc
        def ask_later(self, number):
            return self.everybody.maths.add.call_async(number, 1).result()

        @rpc
        def ask_in_vain(self, number):
            return self.maths.subtract(number, 1)

        @rpc
        def fail(self, number):
            raise ValueError(number)

        @rpc
        def tell(self, number):
            self.log.info("%s is told", number)
            self.dispatch("told", number)

        @event_handler("gateway", "told")
        def hear(self, number):
            self.maths.add(number, 1)

    serve(Maths)
    serve(Gateway)
    return Gateway


@pytest.mark.parametrize(
    ("method", "error"),
    [("idle", None), ("ask", None), ("ask_later", None), ("ask_in_vain", MethodNotFound), ("fail", RemoteError), ("tell", None)],
)
def test_nothing_that_a_worker_had_waits_for_the_garbage_collector(gateway, cluster, method, error):
    seen = gateway.witness.seen
    logging.disable()  # Records that are captured keep the tracebacks of errors.
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            with nullcontext() if error is None else pytest.raises(error):
                getattr(cluster.gateway, method)(number)
        # Workers of events are among them.
        until(lambda: len(seen) >= (40 if method == "tell" else 20) and not any(ref() for ref in seen))
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
