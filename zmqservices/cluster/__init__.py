"""Peers and calls: where the wire, the sockets, the directory and the rules of resilience meet. Knows no service class.

Internal. Services use `zmqservices.rpc` and `zmqservices.events`, other programs `zmqservices.standalone`.
"""
