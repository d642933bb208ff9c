"""Pure rules of calls: which instance is asked, and what to do when a call fails. No sockets and no clock.

Internal. Services use `zmqservices.rpc`.
"""
