"""Counts words. Run as many instances as you like: `zmqservices run examples.words --processes 3`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from zmqservices.exceptions import BadRequest, deserialize_to_instance
from zmqservices.rpc import rpc


@deserialize_to_instance
class NotReadable(BadRequest):
    """The file cannot be read as text. Registered, so that callers who know this module can catch it by its class."""


class Words:
    name = "words"

    @rpc(expected_exceptions=NotReadable, idempotent=True)
    def count(self, path: str, top: int = 3) -> dict[str, object]:
        """Count the words of a text file: how many, how many different ones, and the most common."""
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
        """The same count as a method that does not say it may be repeated: one that sends bills, for example."""
        return self.count(path, top=1)
