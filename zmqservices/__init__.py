"""Nameko's programming model, peer to peer over ZeroMQ: services that call each other with no broker to run."""

from zmqservices.configuration import config

__all__ = ["__version__", "config"]

__version__ = "0.1.0"
