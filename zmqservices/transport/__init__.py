"""The only code that touches ZeroMQ sockets: links, doors, and the two reactors that drive them."""

from zmqservices.transport.door import Door, Sent
from zmqservices.transport.link import Link
from zmqservices.transport.sockets import SocketOptions, Sockets

__all__ = ["Door", "Link", "Sent", "SocketOptions", "Sockets"]
