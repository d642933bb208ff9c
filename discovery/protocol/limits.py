"""The protocol's version, and its limits."""

from __future__ import annotations

#: The protocol version in every frame. A peer with another version is refused with a sentence.
VERSION = 1
#: Bytes of one frame that a registry accepts; a larger frame closes the connection.
MAX_REQUEST = 1024 * 1024
#: Bytes of one record; checked by the client that announces it, and by the registry.
MAX_RECORD = 256 * 1024
#: Bytes of a registration besides its record.
REGISTRATION_ROOM = 1024
#: Bytes of one part of a snapshot.
PART_SIZE = 256 * 1024
#: Bytes after which a registry asks a client to confirm that it has read so far.
MARK_INTERVAL = 128 * 1024
#: Bytes of one frame that a client accepts: a part may be larger than PART_SIZE by one record.
MAX_PUSH = 2 * 1024 * 1024
#: The most that a client accepts from one registry: parts of one snapshot, records (and as many notes), and bytes of all of
#: them. A full registry has less.
MAX_PARTS, MAX_ENTRIES, MAX_HELD = 2000, 25_000, 256 * 1024 * 1024
#: Leases renewed in one message.
MAX_RENEWALS = 2000
#: Lists of revoked certificates in one message, one for each authority. Each is sent in a message of its own, because all of
#: them together may take more bytes than a frame may have.
MAX_LISTS = 8
#: Certificates of registries in one message.
MAX_REGISTRY_CERTIFICATES = 32
#: Bytes of one note, and notes in one message.
MAX_NOTE, MAX_NOTES = 4096, 200
#: Bytes of a note's signed part, and signed notes in one message.
MAX_SIGNED_NOTE, MAX_SIGNED_NOTES = 16 * 1024, 40
