"""A service that counts words. Run as many instances as you like: `zmqservices run examples.words --processes 3`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from zmqservices.exceptions import BadRequest, deserialize_to_instance
from zmqservices.rpc import rpc


@deserialize_to_instance
class NotReadable(BadRequest):
    """The file cannot be read as text. The class is registered, so that callers who import this module can catch it."""


class Words:
    name = "words"

    @rpc(expected_exceptions=NotReadable, idempotent=True)
    def count(self, path: str, top: int = 3) -> dict[str, object]:
        """Return the number of words in a text file, the number of different words, and the most common words."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise NotReadable(f"{path}: {exc}") from exc
        words = Counter(text.lower().split())
        return {
            "words": words.total(),
            "different": len(words),
            "top": words.most_common(top),
            "instance": os.getpid(),
        }

    @rpc(expected_exceptions=NotReadable)
    def tally(self, path: str) -> dict[str, object]:
        """The same count, without `idempotent`: it stands for a method that must not run twice, such as one that sends bills."""
        return self.count(path, top=1)
