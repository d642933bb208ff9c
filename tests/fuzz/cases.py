"""Inputs that were bugs once, or are of a kind that was: target, name, bytes. Each must end as the target promises."""

DEEP = 1000

CASES = [
    ("wire", "an error whose code is a list", bytes.fromhex("93050781a4636f646591a178")),
    ("wire", "a batch of a million messages", b"\x92\x0d\xdd\x00\x0f\x42\x40" + b"\xc0" * 1_000_000),
    ("wire", "a greeting nested without end", b"\x96\x01\x01\x00\xa1n\xa1d" + b"\x91" * DEEP + b"\xc0"),
    ("codec", "arrays within each other", b"\x91" * 100_000),
    ("codec", "an array that claims more than comes", b"\xdd\xff\xff\xff\xff" * 1000),
    ("json", "arrays within each other", b"[" * 100_000 + b"]" * 100_000),
    ("json", "a number of very many digits", b"9" * 100_000),
    ("directory", "a kind nested 1,000 deep", b"\x92" + b"\x91" * DEEP + b"\xc0\xc0"),
    ("directory", "a record nested 1,000 deep", b"\x93\x02\x07" + b"\x91" * DEEP + b"\xc0"),
    ("websocket", "an id that is infinite", b'{"method": "hi", "data": {}, "correlation_id": 1e999}'),
    ("websocket", "data nested without end", b'{"method": "hi", "data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    ("http", "a space before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 44\r\n\r\n"),
    ("http", "two lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n"),
    ("http", "an encoding after a vertical tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n"),
    ("json", "a date of very many characters", b'{"__type__": "datetime", "__value__": "' + b"a" * 100_000 + b'"}'),
    ("http", "a name of very many characters to be decoded", b"GET / HTTP/1.1\r\nHost: xn--" + b"a" * 60_000 + b"\r\n\r\n"),
    ("journal", "an event that is a number", b"\x91\x05"),
    ("journal", "an event that is a map", b"\x91\x80"),
    ("journal", "an event without its fields", b"\x91\x91\xa1a"),
    ("journal", "a map in place of events", b"\x81\x80\x01"),
    ("addresses", "a bracket that is never closed", b"tcp://["),
    ("addresses", "no address in brackets", b"tcp://[x]:1"),
    ("topics", "very many wildcards", b"*." * 5000 + b"x\0" + b"a." * 5000 + b"y"),
    ("addresses", "a port of very many digits", b"tcp://127.0.0.1:" + b"9" * 5000),
]
