"""The data of a directory: the record of one service instance, the note, and the view over all of them.

Rule 1: no sockets, no threads, no clock here.
Rule 2: a record has exactly one writer, its instance; of two versions the one with the higher `rank` wins.
Rule 3: a note may have many writers; of two notes under one key the one with the higher `rank` wins.
"""

# `as` marks the names that other modules of this project use, and that are not public.
from discovery.model.note import NOTE_FIELDS as NOTE_FIELDS
from discovery.model.note import Note
from discovery.model.note import is_key as is_key
from discovery.model.quoting import quoted as quoted
from discovery.model.quoting import shown_url as shown_url
from discovery.model.record import Record
from discovery.model.values import DEFAULT_NAMESPACE as DEFAULT_NAMESPACE
from discovery.model.values import DEFAULT_NOTE_TTL as DEFAULT_NOTE_TTL
from discovery.model.values import DEFAULT_TTL as DEFAULT_TTL
from discovery.model.values import LARGEST_NUMBER as LARGEST_NUMBER
from discovery.model.values import LONGEST_KEY as LONGEST_KEY
from discovery.model.values import LONGEST_NAME as LONGEST_NAME
from discovery.model.values import LONGEST_NOTE_TTL as LONGEST_NOTE_TTL
from discovery.model.values import LONGEST_TTL as LONGEST_TTL
from discovery.model.values import NESTING as NESTING
from discovery.model.values import SHORTEST_TTL as SHORTEST_TTL
from discovery.model.values import is_name as is_name
from discovery.model.values import is_number as is_number
from discovery.model.values import is_ttl as is_ttl
from discovery.model.view import Seen, View

__all__ = ["Note", "Record", "Seen", "View"]
