"""Pure rules of calls: which instance is asked, and what to do when a call fails. No sockets, no clock of their own.

Internal. Services use `zmqservices.rpc`.
"""
