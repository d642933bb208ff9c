"""Clients for programs that host no service. They can be used from any thread or greenlet."""
