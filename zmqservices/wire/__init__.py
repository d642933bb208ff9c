"""The wire format: messages between peers, their envelope, and the values inside. Sans-IO.

Internal.

Rule 1: no sockets, no clock, no logs here; bytes come in as arguments and go out as results.
Rule 2: encoding any value that cannot be sent raises UnserializableValueError.
Rule 3: decoding any bytes that are not a message raises ProtocolError.
Rule 4: no name that a peer sends is ever imported, and nothing it sends is ever run.

docs/protocol.rst is the specification for other implementations; the tests of this package read its test vectors.
"""
