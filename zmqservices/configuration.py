"""The settings that a process runs with (being written)."""

from collections import UserDict


class Config(UserDict):
    """All settings of this process."""


config = Config()
