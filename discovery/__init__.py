"""A light directory of service instances: which services run, and where. Registries keep it and need no consensus.

    directory = open_directory()        # this machine's own; the first process to open it hosts it
    directory.start()
    directory.announce(Record(service="maths", instance="...", endpoints={"rpc": "tcp://127.0.0.1:4321"}))
    directory.view().records
"""

from discovery.backend import Capabilities, Directory, DirectoryLock, Options, register_backend
from discovery.directory import default_cache_dir, open_directory
from discovery.exceptions import (
    DirectoryConfigurationError,
    DirectoryError,
    DirectoryForkedError,
    DirectoryProtocolError,
)
from discovery.model import Note, Record, Seen, View

__all__ = [
    "Capabilities",
    "Directory",
    "DirectoryConfigurationError",
    "DirectoryError",
    "DirectoryForkedError",
    "DirectoryLock",
    "DirectoryProtocolError",
    "Note",
    "Options",
    "Record",
    "Seen",
    "View",
    "default_cache_dir",
    "open_directory",
    "register_backend",
]
