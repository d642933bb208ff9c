"""Leader election among the instances of a service, as a function of what the directory lists.

Rule 1: pure; all processes that see the same list come to the same answer.
Rule 2: the eldest candidate leads, so that a new one takes the leadership from nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import discovery

#: The tag of a record that lists what its instance is a candidate for. The name is part of the protocol.
CANDIDACIES = "duties"


def candidacies_of(record: discovery.Record) -> list[str]:
    """What the instance of a record is a candidate for. [] if the tag is no list, since peers may send anything."""
    candidacies = record.tags.get(CANDIDACIES)
    return candidacies if isinstance(candidacies, list) else []


def with_candidacies(tags: dict[str, Any], candidacies: Iterable[str]) -> dict[str, Any]:
    """The tags, with these candidacies instead of the former ones."""
    others = {key: value for key, value in tags.items() if key != CANDIDACIES}
    named = sorted(candidacies)
    return {**others, CANDIDACIES: named} if named else others


def leader(seen: Iterable[discovery.Seen], name: str) -> str | None:
    """The id of the instance that leads `name`; None without a candidate.

    `seen` are the directory's entries for one service. An instance whose lease ran out does not count, even where the
    registry still keeps it as a suspect. One that drains does: it resigns when its last work is done.
    """
    candidates = [
        one.record for one in seen if not one.suspect and one.record.state != "STARTING" and name in candidacies_of(one.record)
    ]
    eldest = min(candidates, key=lambda record: (record.incarnation, record.instance), default=None)
    return None if eldest is None else eldest.instance
