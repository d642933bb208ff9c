"""How docs/protocol-vectors.json writes values that JSON has not: `{"$tuple": [1, 2]}` and the like."""

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

VECTORS_PATH = Path(__file__).resolve().parents[2] / "docs" / "protocol-vectors.json"


def load_vectors():
    return json.loads(VECTORS_PATH.read_text("utf-8"))


def read_datetime(text):
    """ISO 8601; a `~` at the end: the second of two moments of that name (fold 1)."""
    return datetime.fromisoformat(text.removesuffix("~")).replace(fold=int(text.endswith("~")))


READERS = {
    "$int": int,
    "$float": float,
    "$bytes": bytes.fromhex,
    "$repeat": lambda pair: bytes.fromhex(pair[0]) * pair[1],
    "$map": lambda pairs: {value_of(key): value_of(item) for key, item in pairs},
    "$tuple": lambda items: tuple(map(value_of, items)),
    "$set": lambda items: set(map(value_of, items)),
    "$frozenset": lambda items: frozenset(map(value_of, items)),
    "$datetime": read_datetime,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$decimal": Decimal,
    "$uuid": UUID,
}


def value_of(written):
    """The Python value that the notation means."""
    if isinstance(written, list):
        return [value_of(item) for item in written]
    if isinstance(written, dict):
        if len(written) == 1:
            [(key, inner)] = written.items()
            if key in READERS:
                return READERS[key](inner)
        return {key: value_of(item) for key, item in written.items()}
    return written
