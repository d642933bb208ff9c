"""Pure rules of calling: who is asked, and what is done when that goes wrong. No sockets, no clock of their own.

Internal. Services use `zmqservices.rpc`.
"""
