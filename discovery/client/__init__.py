"""The client of registries: its connections, the leases that it renews, and the merged view.

Internal. Programs use `discovery.open_directory`.
"""
