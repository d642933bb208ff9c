"""The journal on disk that keeps a publisher's events (`Journal`), and the delivery schedule of one group (`DeliverySchedule`).

Internal. Services use `zmqservices.events`; operators use `zmqservices events`.

Rule 1: no sockets, no greenlets and no services here. A journal has one native thread, and calls callbacks on that thread.
Rule 2: an event is deleted only when all groups have handled it, or because of a bound; then its groups are told.
"""

from zmqservices.journal.delivery_actions import Action, Bury, Fetch, Send, SendGap
from zmqservices.journal.delivery_schedule import DeliverySchedule
from zmqservices.journal.events import DeadLetter, Group, GroupStats, JournalStats, LostRange, NewEvent, Notice, Page, StoredEvent
from zmqservices.journal.journal import Journal
from zmqservices.journal.slots import Orphan

__all__ = [
    "Action",
    "Bury",
    "DeadLetter",
    "DeliverySchedule",
    "Fetch",
    "Group",
    "GroupStats",
    "Journal",
    "JournalStats",
    "LostRange",
    "NewEvent",
    "Notice",
    "Orphan",
    "Page",
    "Send",
    "SendGap",
    "StoredEvent",
]
