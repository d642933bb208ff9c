"""The inside of the hosting tower: worker greenlets, the life cycle of a service, deadlines, managed threads.

Internal. Services and extensions use `zmqservices.containers`, `zmqservices.extensions` and `zmqservices.runners`.
"""
