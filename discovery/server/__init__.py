"""The registry: the table of leases, and the server that sends its subscribers every change.

Internal. Operators use `zmqservices registry serve`.
"""
