"""Values and URLs for the texts of errors and logs: shortened, and without passwords.

Internal.
"""

from __future__ import annotations

import re


def quoted(value: object, most: int = 80) -> str:
    """A peer's value, shortened for an error text. Lists and maps are described by their length only."""
    if isinstance(value, str | bytes):
        return repr(value[:most]) + ("..." if len(value) > most else "")
    if isinstance(value, list | tuple | dict):
        return f"a {'map' if isinstance(value, dict) else 'list'} of {len(value)}"
    return repr(value)[:most]


#: A user and a password in a URL, or in each URL of a list.
_PASSWORD = re.compile(r"(?<=://)([^:@/?]*):[^/?]*@")
#: A token in a Consul URL: everything before the @, with or without a colon.
_TOKEN = re.compile(r"(?<=consul://)[^/?]*@")


def shown_url(url: str) -> str:
    """A directory's URL for an error text or a log: without passwords and tokens."""
    return _PASSWORD.sub(r"\1@", _TOKEN.sub("", url))
