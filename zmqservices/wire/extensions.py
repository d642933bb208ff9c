"""Encodes and decodes the types that msgpack lacks.

Rule 1: the code and the format of an extension are part of the protocol (docs/protocol.rst, "Typed extensions") and never change.
Rule 2: a reader raises an error for bytes of any other format. `codec` turns every error into a ProtocolError.
"""

from __future__ import annotations

import re
import struct
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

TUPLE = 1
SET = 2
FROZENSET = 3
DATETIME = 4
DATE = 5
TIME = 6
TIMEDELTA = 7
DECIMAL = 8
UUID_CODE = 9
INT = 10
#: The code of the placeholder of a payload frame. Only the envelope writes and reads it.
PAYLOAD = 16

_DATETIME = struct.Struct(">HBBBBBBI")  # year, month, day, hour, minute, second, fold, microsecond
_DATE = struct.Struct(">HBB")  # year, month, day
_TIME = struct.Struct(">BBBBI")  # hour, minute, second, fold, microsecond
_OFFSET = struct.Struct(">q")  # microseconds east of UTC, after a datetime or time that has an offset
_TIMEDELTA = struct.Struct(">iII")  # days, seconds of the day, microseconds
_DECIMAL = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([Ee][+-]?\d+)?|[+-]?(Infinity|s?NaN\d*)")

_MICROSECOND = timedelta(microseconds=1)


# --- days and times ----------------------------------------------------------------------------------------


def write_datetime(value: datetime) -> bytes:
    """12 bytes for a naive datetime, 20 for one with an offset from UTC."""
    return _DATETIME.pack(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.fold, value.microsecond
    ) + _written_offset(value)


def read_datetime(raw: bytes) -> datetime:
    """The datetime. It has a fixed offset in place of its original zone."""
    year, month, day, hour, minute, second, fold, microsecond = _DATETIME.unpack(raw[:12])
    return datetime(year, month, day, hour, minute, second, microsecond, _read_offset(raw[12:]), fold=fold)


def write_date(value: date) -> bytes:
    """4 bytes."""
    return _DATE.pack(value.year, value.month, value.day)


def read_date(raw: bytes) -> date:
    """The day."""
    return date(*_DATE.unpack(raw))


def write_time(value: time) -> bytes:
    """8 bytes for a naive time, 16 for one with an offset from UTC. Raises ValueError if the offset depends on the day."""
    return _TIME.pack(value.hour, value.minute, value.second, value.fold, value.microsecond) + _written_offset(value)


def read_time(raw: bytes) -> time:
    """The time of day."""
    hour, minute, second, fold, microsecond = _TIME.unpack(raw[:8])
    return time(hour, minute, second, microsecond, _read_offset(raw[8:]), fold=fold)


def _written_offset(value: datetime | time) -> bytes:
    if value.tzinfo is None:
        return b""
    offset = value.utcoffset()
    if offset is None:
        raise ValueError("a time zone without a fixed offset cannot travel")
    return _OFFSET.pack(offset // _MICROSECOND)


def _read_offset(raw: bytes) -> tzinfo | None:
    return timezone(timedelta(microseconds=_OFFSET.unpack(raw)[0])) if raw else None


def write_timedelta(value: timedelta) -> bytes:
    """12 bytes, in Python's own normal form: only the days may be negative."""
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def read_timedelta(raw: bytes) -> timedelta:
    """The span of time."""
    days, seconds, microseconds = _TIMEDELTA.unpack(raw)
    if seconds >= 86_400 or microseconds >= 1_000_000:
        raise ValueError("a timedelta that is not in its normal form")
    return timedelta(days, seconds, microseconds)


# --- numbers and ids ---------------------------------------------------------------------------------------


def write_decimal(value: Decimal) -> bytes:
    """The number as ASCII text: exact, whatever the decimal context."""
    return str(value).encode("ascii")


def read_decimal(raw: bytes) -> Decimal:
    """The number, exact."""
    if not _DECIMAL.fullmatch(raw):
        raise ValueError("not a decimal number")
    value = Decimal(raw.decode("ascii"))
    if value.is_nan() and b"NaN" not in raw:
        # The decimal context of this thread has no trap for numbers beyond the limits.
        raise ValueError("a decimal number whose exponent is beyond the limits")
    return value


def write_uuid(value: UUID) -> bytes:
    """16 bytes, most significant first."""
    return value.bytes


def read_uuid(raw: bytes) -> UUID:
    """The id."""
    return UUID(bytes=raw)


def write_int(value: int) -> bytes:
    """Two's complement, most significant byte first, in as few bytes as possible."""
    return value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True)


def read_int(raw: bytes) -> int:
    """The number. Raises ValueError if msgpack's own 64-bit integers, or fewer bytes, could hold it."""
    value = int.from_bytes(raw, "big", signed=True)
    if -(2**63) <= value < 2**64 or len(raw) != (value if value >= 0 else ~value).bit_length() // 8 + 1:
        raise ValueError("a long integer that has a shorter form")
    return value


#: The code of each type's extension, and the function that writes it. TUPLE, SET and FROZENSET hold values: see `codec`.
WRITERS: dict[type, tuple[int, Any]] = {
    datetime: (DATETIME, write_datetime),
    date: (DATE, write_date),
    time: (TIME, write_time),
    timedelta: (TIMEDELTA, write_timedelta),
    Decimal: (DECIMAL, write_decimal),
    UUID: (UUID_CODE, write_uuid),
    int: (INT, write_int),
}
#: The function that reads each extension, by its code.
READERS: dict[int, Any] = {
    DATETIME: read_datetime,
    DATE: read_date,
    TIME: read_time,
    TIMEDELTA: read_timedelta,
    DECIMAL: read_decimal,
    UUID_CODE: read_uuid,
    INT: read_int,
}
