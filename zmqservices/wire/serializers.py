"""The formats of arguments and results: this package's own msgpack, JSON, and the serializers of the settings.

    get_serializer("json").loads(get_serializer("json").dumps({"due": date(2024, 2, 29)}))

Rule 1: `dumps` raises UnserializableValueError for a value that the format cannot carry; `loads` raises ProtocolError.
Rule 2: a name that a peer sends is only looked up among the known names. It is never imported.
"""

from __future__ import annotations

import base64
import json
import pkgutil
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from zmqservices.exceptions import ConfigurationError, ProtocolError, UnserializableValueError
from zmqservices.wire import codec
from zmqservices.wire.nesting import is_deeper, may_be_deeper
from zmqservices.wire.quoting import plain


class Serializer(Protocol):
    """A format that turns values into bytes and back."""

    name: str

    def dumps(self, value: object) -> bytes:
        """The value as bytes. Raises UnserializableValueError."""

    def loads(self, raw: bytes) -> Any:
        """The value in the bytes. Raises ProtocolError."""


class _Functions:
    """A serializer made of two functions. Their errors become UnserializableValueError and ProtocolError."""

    def __init__(self, name: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> None:
        self.name = name
        self._encode = encode
        self._decode = decode

    def __repr__(self) -> str:
        return f"<serializer {self.name!r}>"

    def dumps(self, value: object) -> bytes:
        try:
            return self._encode(value)
        except UnserializableValueError:
            raise
        except Exception as exc:
            raise UnserializableValueError(value) from exc

    def loads(self, raw: bytes) -> Any:
        try:
            return self._decode(raw)
        except ProtocolError:
            raise
        except Exception as exc:
            # Cut, because the texts of some errors contain the whole document.
            why = plain(str(exc) or type(exc).__name__)
            raise ProtocolError(f"not a {self.name} document: {why}") from exc


# --- JSON with types, spelled as kombu 5.3 and later spell them --------------------------------------------

#: Levels of nested arrays and objects. A deeper value could be read, but not written or compared.
MAX_JSON_NESTING = 500

TYPE, VALUE = "__type__", "__value__"

#: Looked up by the exact type first, then by the nearest base. (A datetime is also a date.)
_TO_JSON: dict[type, Callable[[Any], Any]] = {
    datetime: lambda value: {TYPE: "datetime", VALUE: value.isoformat()},
    date: lambda value: {TYPE: "date", VALUE: value.isoformat()},
    time: lambda value: {TYPE: "time", VALUE: value.isoformat()},
    Decimal: lambda value: {TYPE: "decimal", VALUE: str(value)},
    UUID: lambda value: {TYPE: "uuid", VALUE: {"hex": value.hex}},
    bytes: lambda value: _bytes_to_json(value),
    bytearray: lambda value: _bytes_to_json(bytes(value)),
    memoryview: lambda value: _bytes_to_json(bytes(value)),
}
_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    # kombu writes a date as a date; older versions write the midnight at its beginning.
    "date": lambda value: datetime.fromisoformat(value).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda value: UUID(hex=value["hex"]),
}


def _bytes_to_json(value: bytes) -> dict[str, Any]:
    try:
        return {"bytes": value.decode("utf-8"), "__bytes__": True}
    except UnicodeDecodeError:
        return {"bytes": base64.b64encode(value).decode("ascii"), "__base64__": True}


def _default(value: object) -> Any:
    for base in type(value).__mro__:
        to_json = _TO_JSON.get(base)
        if to_json is not None:
            return to_json(value)
    raise UnserializableValueError(value)


def _object_hook(found: dict[str, Any]) -> Any:
    if len(found) == 2:
        if TYPE in found and VALUE in found:
            from_json = _FROM_JSON.get(found[TYPE])
            return found if from_json is None else from_json(found[VALUE])
        if "bytes" in found and found.get("__bytes__") is True:
            return found["bytes"].encode("utf-8")
        if "bytes" in found and found.get("__base64__") is True:
            return base64.b64decode(found["bytes"], validate=True)
    return found


def _json_dumps(value: object) -> bytes:
    return json.dumps(value, default=_default, separators=(",", ":")).encode("ascii")


def _json_loads(raw: bytes) -> Any:
    text = str(raw, "utf-8")
    value = json.loads(text, object_hook=_object_hook)
    if may_be_deeper(text, MAX_JSON_NESTING) and is_deeper(value, MAX_JSON_NESTING):
        raise ValueError(f"more than {MAX_JSON_NESTING} arrays or objects are within each other")
    return value


# --- finding one -------------------------------------------------------------------------------------------

MSGPACK = _Functions("msgpack", codec.pack, codec.unpack)
JSON = _Functions("json", _json_dumps, _json_loads)

#: The serializers that need no settings.
BUILTIN: dict[str, Serializer] = {MSGPACK.name: MSGPACK, JSON.name: JSON}


def get_serializer(name: str, config_serializers: Mapping[str, Any] | None = None) -> Serializer:
    """The serializer of that name: from the settings (the value of SERIALIZERS), or else from BUILTIN.

    A setting is `{name: {"encoder": "package.module.dumps", "decoder": "package.module.loads"}}`. The functions write and read
    text unless the setting has `"content_encoding": "binary"`. Raises ConfigurationError for an unknown name, and lists the known
    ones.
    """
    configured = _checked(config_serializers)
    if name in configured:
        return _from_settings(name, configured[name])
    if name in BUILTIN:
        return BUILTIN[name]
    known = ", ".join(repr(known) for known in sorted({*BUILTIN, *map(str, configured)}))
    raise ConfigurationError(
        f"serializer is {name!r}, which is not known here; use one of {known}, or add it to SERIALIZERS"
    )


def _checked(config_serializers: object) -> Mapping[str, Any]:
    if config_serializers is None:
        return {}
    if not isinstance(config_serializers, Mapping):
        raise ConfigurationError(
            f"SERIALIZERS is {config_serializers!r}; a mapping of names to an encoder and a decoder is needed"
        )
    return config_serializers


def _from_settings(name: str, settings: object) -> Serializer:
    if not isinstance(settings, Mapping) or not settings.get("encoder") or not settings.get("decoder"):
        raise ConfigurationError(
            f"SERIALIZERS[{name!r}] is {settings!r}; an encoder and a decoder are needed, each as a dotted path"
        )
    encoder = _resolve(name, settings["encoder"])
    decoder = _resolve(name, settings["decoder"])
    encoding = str(settings.get("content_encoding") or "utf-8")
    if encoding == "binary":
        return _Functions(name, lambda value: bytes(encoder(value)), decoder)

    def encode(value: object) -> bytes:
        document = encoder(value)
        return document.encode(encoding) if isinstance(document, str) else bytes(document)

    return _Functions(name, encode, lambda raw: decoder(str(raw, encoding)))


def _resolve(name: str, path: Any) -> Callable[[Any], Any]:
    try:
        function = pkgutil.resolve_name(path)
    except Exception as exc:
        raise ConfigurationError(f"SERIALIZERS[{name!r}] names {path!r}, which cannot be imported: {exc}") from exc
    if not callable(function):
        raise ConfigurationError(f"SERIALIZERS[{name!r}] names {path!r}, which is not a function")
    return function
