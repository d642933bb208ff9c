"""The kit for tests of services; docs/testing.rst is its guide. The pytest fixtures are in `zmqservices.testing.pytest`."""
