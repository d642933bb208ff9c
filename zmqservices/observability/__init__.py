"""Counts, metrics, spans and logs of calls and events. All of it is built on `zmqservices.probes`.

Internal. The modules that docs/api lists are public.
"""
