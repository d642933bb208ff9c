"""Events between processes: publishers with their journals, and subscribers with their consumers.

Internal. Services use `zmqservices.events`.
"""
