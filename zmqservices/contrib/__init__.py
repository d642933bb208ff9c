"""Providers for databases, caches and error reports. Each file needs one library, which is an extra of the file's name."""
