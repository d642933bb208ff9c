"""The only code that touches ZeroMQ sockets: links, doors, broadcasts, and the two reactors that drive them."""

from zmqservices.transport.broadcast import Antenna, Mast
from zmqservices.transport.router import Door, Sent
from zmqservices.transport.dealer import Link
from zmqservices.transport.sockets import SocketOptions, Sockets, UnusableEndpoint

__all__ = ["Antenna", "Door", "Link", "Mast", "Sent", "SocketOptions", "Sockets", "UnusableEndpoint"]
