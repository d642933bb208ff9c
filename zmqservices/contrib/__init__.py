"""Providers for databases, caches and error reports. Each module needs one library, and its docstring names the extra."""
