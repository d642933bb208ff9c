"""Who of a service's instances does what only one of them shall do.

Rule 1: pure; a function of what a directory lists, so that all who see the same list come to the same answer.
Rule 2: the eldest instance that stands ready has the duty, so that a newcomer takes it from nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: The tag of a record under which its instance lists the duties that it stands ready for.
DUTIES = "duties"


def duties_of(record: Any) -> list[str]:
    """What the record says that its instance stands ready for; [] where it is no list: peers may send anything."""
    duties = record.tags.get(DUTIES)
    return duties if isinstance(duties, list) else []


def with_duties(tags: dict[str, Any], duties: Iterable[str]) -> dict[str, Any]:
    """Tags that say `duties`."""
    others = {key: value for key, value in tags.items() if key != DUTIES}
    named = sorted(duties)
    return {**others, DUTIES: named} if named else others


def holder(seen: Iterable[Any], duty: str) -> str | None:
    """The id of the instance that has the duty; None where nobody stands ready.

    `seen` are the directory's entries for one service. An instance whose lease ran out does not count, even where the
    registry still keeps it as a suspect. One that drains does: it gives the duty up itself when the last of it is done.
    """
    ready = [one.record for one in seen if not one.suspect and one.record.state != "STARTING" and duty in duties_of(one.record)]
    eldest = min(ready, key=lambda record: (record.incarnation, record.instance), default=None)
    return None if eldest is None else eldest.instance
