"""Calls between processes: the client side (`caller`, `peer`, `instances`) and the server side (`server`, `incoming`).

Internal. Calls know nothing of events and nothing of the journal.
"""
