"""The publisher's memory of its events: a journal on disk (`Journal`), and the schedule of one group (`Deliveries`).

Rule 1: no sockets, no greenlets and no services here. A journal has one thread of the operating system; whoever waits for
it is called back on that thread.
Rule 2: an event is forgotten only when all groups have handled it or when a bound says so, and then the group is told.
"""

from zmqservices.journal.delivery_schedule import Bury, Deliveries, Load, Send, Tell
from zmqservices.journal.events import DeadLetter, Gap, Group, NewEvent, Page, StoredEvent
from zmqservices.journal.journal import Journal
from zmqservices.journal.slots import Orphan

__all__ = [
    "Bury",
    "DeadLetter",
    "Deliveries",
    "Gap",
    "Group",
    "Journal",
    "Load",
    "NewEvent",
    "Orphan",
    "Page",
    "Send",
    "StoredEvent",
    "Tell",
]
