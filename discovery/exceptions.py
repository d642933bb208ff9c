"""Everything that can go wrong with a directory, named for what the user can do about it.

Rule 1: this is a leaf; it imports nothing of the package.
"""

from __future__ import annotations

__all__ = [
    "DirectoryConfigurationError",
    "DirectoryError",
    "DirectoryForkedError",
    "DirectoryOverloadError",
    "DirectoryProtocolError",
]


class DirectoryError(Exception):
    """The root of all errors of this package."""


class DirectoryConfigurationError(DirectoryError):
    """A directory URL or a setting is wrong; the text quotes the value and offers the mend."""


class DirectoryProtocolError(DirectoryError):
    """Bytes or fields are not what the registry protocol says. The only error that decoding raises."""


class DirectoryForkedError(DirectoryError):
    """A directory was carried over a fork, where its sockets would lose messages in silence."""


class DirectoryOverloadError(DirectoryProtocolError):
    """A registry sent more than any registry holds."""
