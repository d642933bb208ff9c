"""The errors of a directory, named for what the user can do about them.

Rule 1: this is a leaf; it imports nothing of the package.
"""

from __future__ import annotations

__all__ = [
    "DirectoryConfigurationError",
    "DirectoryError",
    "DirectoryForkedError",
    "DirectoryOverloadError",
    "DirectoryProtocolError",
    "SecurityError",
]


class DirectoryError(Exception):
    """The root of all errors of this package."""


class DirectoryConfigurationError(DirectoryError):
    """A directory URL or a setting is wrong; the text quotes the value and says what is needed."""


class SecurityError(DirectoryConfigurationError):
    """A key, a certificate or a folder of them cannot be used. The text names the file and says what to do."""


class EngineError(DirectoryError):
    """An engine that keeps the directory, such as etcd, cannot be used. The text says why, and what to do."""


class EngineOverdueError(EngineError):
    """A server of an engine did not answer in time."""


class EngineRefusal(DirectoryError):
    """An engine refused one record, note or lock. Everything else goes on."""


class DirectoryProtocolError(DirectoryError):
    """Bytes or fields violate the registry protocol. The only error that decoding raises."""


class DirectoryForkedError(DirectoryError):
    """A directory was used in a forked child, where its sockets would silently lose messages."""


class DirectoryOverloadError(DirectoryProtocolError):
    """A registry sent more data than any registry may hold."""
