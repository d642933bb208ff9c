"""What tests of services use; docs/testing.rst tells how. The fixtures are in `zmqservices.testing.pytest`."""
