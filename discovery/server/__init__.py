"""A registry's side: the table of leases and the server that tells its subscribers of every change.

Internal. Operators use `zmqservices registry serve`.
"""
