"""What stands on probes: statistics of calls and events, and the page of metrics that Prometheus reads.

Internal, but for the modules that docs/api lists.
"""
