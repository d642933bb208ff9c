"""The only code that touches ZeroMQ sockets: DEALER links, ROUTER sockets, broadcasts, and the two reactors that drive them.

Internal. Services use `zmqservices.rpc` and `zmqservices.events`, other programs `zmqservices.standalone`.
"""

from zmqservices.transport.broadcast import BroadcastPublisher, BroadcastSubscriber
from zmqservices.transport.dealer import DealerLink
from zmqservices.transport.router import RouterSocket, Sent
from zmqservices.transport.sockets import SocketOptions, Sockets, UnusableEndpoint

__all__ = [
    "BroadcastPublisher",
    "BroadcastSubscriber",
    "DealerLink",
    "RouterSocket",
    "Sent",
    "SocketOptions",
    "Sockets",
    "UnusableEndpoint",
]
