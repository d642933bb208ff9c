"""The only code that touches ZeroMQ sockets: links, doors, broadcasts, and the two reactors that drive them."""

from zmqservices.transport.broadcast import BroadcastSubscriber, BroadcastPublisher
from zmqservices.transport.router import RouterSocket, Sent
from zmqservices.transport.dealer import DealerLink
from zmqservices.transport.sockets import SocketOptions, Sockets, UnusableEndpoint

__all__ = ["BroadcastSubscriber", "RouterSocket", "DealerLink", "BroadcastPublisher", "Sent", "SocketOptions", "Sockets", "UnusableEndpoint"]
