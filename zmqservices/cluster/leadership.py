"""Leader election among the instances of a service, computed from the directory's list.

Rule 1: pure. All processes that see the same list find the same leader.
Rule 2: the eldest candidate leads, so that a new candidate never replaces the leader.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import discovery

#: The tag of a record that lists the candidacies of its instance. The name is part of the protocol.
CANDIDACIES = "duties"


def candidacies_of(record: discovery.Record) -> list[str]:
    """The candidacies of the instance of a record; [] if the tag is no list, because peers may send anything."""
    candidacies = record.tags.get(CANDIDACIES)
    return candidacies if isinstance(candidacies, list) else []


def with_candidacies(tags: dict[str, Any], candidacies: Iterable[str]) -> dict[str, Any]:
    """The tags with these candidacies in place of the former ones."""
    others = {key: value for key, value in tags.items() if key != CANDIDACIES}
    named = sorted(candidacies)
    return {**others, CANDIDACIES: named} if named else others


def leader(seen: Iterable[discovery.Seen], name: str) -> str | None:
    """The id of the instance that leads `name`; None without a candidate.

    `seen`: the directory's entries for one service. An instance whose lease has expired does not count, even if the registry
    still keeps it as a suspect. A draining instance counts, and resigns when its last work is done.
    """
    candidates = [
        one.record for one in seen if not one.suspect and one.record.state != "STARTING" and name in candidacies_of(one.record)
    ]
    eldest = min(candidates, key=lambda record: (record.incarnation, record.instance), default=None)
    return None if eldest is None else eldest.instance
