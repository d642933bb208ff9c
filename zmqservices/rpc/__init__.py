"""Remote procedure calls: `@rpc` makes a method callable, `RpcProxy` (`ServiceRpc`, `ClusterRpc`) calls one.

    class Maths:
        name = "maths"

        @rpc
        def add(self, a, b):
            return a + b

    class Report:
        name = "report"
        maths = RpcProxy("maths", timeout=5)

        @rpc
        def total(self, numbers):
            return functools.reduce(self.maths.add, numbers)
"""

from zmqservices.removed import removed_names
from zmqservices.rpc.entrypoint import Rpc, rpc
from zmqservices.rpc.providers import ClusterRpc, RpcProxy, ServiceRpc
from zmqservices.rpc.proxies import Client, ClusterProxy, MethodProxy, RpcCall, RpcReply, ServiceProxy
from zmqservices.rpc.server import RpcServer

__all__ = [
    "Client",
    "ClusterProxy",
    "ClusterRpc",
    "MethodProxy",
    "Rpc",
    "RpcCall",
    "RpcProxy",
    "RpcReply",
    "RpcServer",
    "ServiceProxy",
    "ServiceRpc",
    "rpc",
]

__getattr__ = removed_names(
    __name__,
    {
        "ReplyListener": "there are no reply queues; answers come over the link that the call went out on "
        "(zmqservices.cluster.calls.caller.Caller)",
        "RpcConsumer": "there are no queues to consume; use zmqservices.rpc.RpcServer, which serves a container's methods",
        "Responder": "answers are sent by zmqservices.rpc.RpcServer.handle_result; override Rpc or RpcServer instead",
        "get_rpc_exchange": "there are no exchanges; a service is found through its directory (docs/discovery.rst)",
    },
)
