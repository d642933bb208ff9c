"""Providers for what services often need besides each other; each file stands on one library, and is an extra of its name."""
