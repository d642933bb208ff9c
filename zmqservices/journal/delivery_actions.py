"""The actions that a `DeliverySchedule` asks for. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from zmqservices.journal.events import LostRange, StoredEvent


class Send(NamedTuple):
    """Please send `event` to `member`; it is its `attempt`-th delivery (1 is the first)."""

    member: str
    event: StoredEvent
    attempt: int


class Bury(NamedTuple):
    """Please give up `event` after `attempts` deliveries: `Journal.bury`."""

    event: StoredEvent
    attempts: int
    error: dict[str, Any]


class Fetch(NamedTuple):
    """Please fetch: `Journal.fetch(group, after, limit, ...)`, and answer with `loaded` or `not_loaded`."""

    after: int
    limit: int


class SendGap(NamedTuple):
    """Please send `gap` to `member`, log it, and acknowledge it: `Journal.acknowledge(group, gap.seq)`."""

    member: str
    gap: LostRange


Action = Send | Bury | Fetch | SendGap
