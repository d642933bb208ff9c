"""For programs that host no service: clients usable from any thread or greenlet."""
