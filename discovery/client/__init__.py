"""A process's side of the registries: connections, leases that are renewed, and the merged view.

Internal. Programs use `discovery.open_directory`.
"""
