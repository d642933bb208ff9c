"""What peers say to each other, as bytes: messages, their envelope, and the values inside. Sans-IO.

Internal. docs/protocol.rst is the specification for other implementations.

Rule 1: no sockets, no clock, no logs here; bytes come in as arguments and go out as results.
Rule 2: a value that cannot travel is refused with UnserializableValueError, whatever it is.
Rule 3: bytes that are not a message are refused with ProtocolError, whatever they are.
Rule 4: no name that a peer sends is ever imported, and nothing it sends is ever run.

docs/protocol.rst is the specification; the tests of this package read its vectors.
"""
