"""Values as bytes: msgpack, with extensions for the types of Python that msgpack lacks.

    unpack(pack({1: (2, Decimal("3.5"))})) == {1: (2, Decimal("3.5"))}

Rule 1: `pack` raises UnserializableValueError and nothing else; `unpack` raises ProtocolError and nothing else.
Rule 2: a value comes back equal and of the same builtin type; subclasses travel as their builtin.
Rule 3: n bytes make at most n objects, and lists are only as long as the bytes can fill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

from msgpack import ExtType, Packer, StackError, Unpacker, unpackb

from zmqservices.exceptions import ProtocolError, UnserializableValueError
from zmqservices.wire import extensions
from zmqservices.wire.extensions import FROZENSET, PAYLOAD, SET, TUPLE

#: Levels of tuples and sets within each other. Each holds a separate document, whose reader needs 40 KiB of the C stack.
MAX_EXTENSION_NESTING = 32
#: Levels of containers inside a tuple or set; with the packer's own bound (511 or 1024) around it, the C stack is safe.
MAX_NESTING = 500
#: The lengths that arrays claim are not checked in documents of up to this many bytes: they can waste 11 MB at most.
TRUSTED_SIZE = 2048
#: Bytes that arrays may allocate for items that they claim and do not have, and the bytes for one such item.
MAX_WASTE, POINTER = 16 * 1024 * 1024, 8
#: In documents of more bytes, arrays are checked by skipping through the document, and not by counting their first bytes.
COUNTED_SIZE = 8 * 1024
#: Documents of more bytes may hold enough keys with one hash to stall a process. (Python salts the hashes of texts and bytes
#: only; anybody can choose numbers, tuples and dates that have the same hash.)
COLLIDING_SIZE = 16 * 1024
#: If such a document has more than MAX_UNSALTED extensions, the hashes in each map or set of more than MAX_UNSALTED items are
#: counted; at most MAX_ONE_HASH items may share a hash. (All keys but texts, bytes and 64-bit integers travel as extensions.)
MAX_UNSALTED, MAX_ONE_HASH = 1000, 100
#: A packer keeps the largest buffer that it ever needed. A packer that needed more than this many bytes is not used again.
KEPT_PACKER_SIZE = 1024 * 1024

Default = Callable[[Any], Any]
Hook = Callable[[int, bytes], Any]


class PayloadPlaceholder:
    """Packed in place of a bytes value that follows in a separate frame. Only the envelope uses it."""


PLACEHOLDER = PayloadPlaceholder()
_NOT_GIVEN = object()


# --- writing -----------------------------------------------------------------------------------------------


def pack(value: object, blame: object = _NOT_GIVEN) -> bytes:
    """The value as bytes. Raises UnserializableValueError with the innermost value that cannot be sent.

    If that value is not known (a container that contains itself), the error names `blame`, or else `value`.
    """
    # A list's pop and append are atomic: each packer is used by one thread and one greenlet at a time, without a lock.
    try:
        packer = _idle.pop()
    except IndexError:
        packer = _new_packer(0)
    try:
        packed: bytes = packer.pack(value)
    except UnserializableValueError:
        raise
    except UnicodeEncodeError as exc:
        raise UnserializableValueError(exc.object) from exc
    except Exception as exc:
        raise UnserializableValueError(value if blame is _NOT_GIVEN else blame) from exc
    if len(packed) < KEPT_PACKER_SIZE:
        _idle.append(packer)
    return packed


def _new_packer(level: int) -> Any:
    return Packer(default=_defaults[level], strict_types=True)


def _make_default(level: int) -> Default:
    """A function that packs the values that msgpack cannot pack, where `level` tuples and sets are around them."""

    def default(value: object) -> Any:
        cls = type(value)
        write = _writers.get(cls)
        if write is None:
            write = next((_builtins[base] for base in cls.__mro__ if base in _builtins), None)
            if write is None:
                raise UnserializableValueError(value)
        try:
            return write(value, level)
        except (UnserializableValueError, UnicodeEncodeError):
            raise
        except Exception as exc:
            raise UnserializableValueError(value) from exc

    return default


def _ext(code: int, raw: bytes) -> ExtType:
    # The constructor of ExtType would check the code and the bytes again, which takes 0.4 us.
    return tuple.__new__(ExtType, (code, raw))


def _write_by(code: int, write: Callable[[Any], bytes]) -> Callable[[Any, int], ExtType]:
    return lambda value, level: _ext(code, write(value))


def _write_items(code: int) -> Callable[[Any, int], ExtType]:
    def write(value: Any, level: int) -> ExtType:
        if level == MAX_EXTENSION_NESTING:
            raise UnserializableValueError(value)
        if level == 0:
            _check_nesting(value)
        level += 1
        try:
            packer = _idle_inside[level].pop()
        except IndexError:
            packer = _new_packer(level)
        raw = packer.pack(list(value))
        if len(raw) < KEPT_PACKER_SIZE:
            _idle_inside[level].append(packer)
        return _ext(code, raw)

    return write


def _check_nesting(value: Any) -> None:
    """Raises UnserializableValueError for containers that are nested deeper than MAX_NESTING, or that contain themselves."""
    # Depth first, so that a container that contains itself is followed once, and not once for each place where it occurs.
    path = [iter(value)]
    while path:
        for item in path[-1]:
            if type(item) not in _SCALARS and isinstance(item, _CONTAINERS):
                if len(path) == MAX_NESTING:
                    raise UnserializableValueError(value)
                path.append(chain(dict.keys(item), dict.values(item)) if isinstance(item, dict) else iter(item))
                break
        else:
            path.pop()


_CONTAINERS = (list, tuple, dict, set, frozenset)
_SCALARS = frozenset((str, int, float, bool, type(None), bytes))

#: For each type and its subclasses, a function that turns a value into a builtin that msgpack knows, or into an extension.
_builtins: dict[type, Callable[[Any, int], Any]] = {
    **{cls: _write_by(code, write) for cls, (code, write) in extensions.WRITERS.items()},
    tuple: _write_items(TUPLE),
    set: _write_items(SET),
    frozenset: _write_items(FROZENSET),
    # The method of the builtin is called, because `__str__` or `__int__` of a subclass may return anything.
    str: lambda value, level: str.__str__(value),
    bytes: lambda value, level: bytes.__bytes__(value),
    bytearray: lambda value, level: bytearray.__getitem__(value, slice(None)),
    float: lambda value, level: float.__float__(value),
    list: lambda value, level: list(value),
    dict: lambda value, level: dict(value),
}


def _write_int(value: int, level: int) -> Any:
    number = int.__int__(value)
    if -(2**63) <= number < 2**64:
        return number
    return _ext(extensions.INT, extensions.write_int(number))


_builtins[int] = _write_int
_writers = {**_builtins, PayloadPlaceholder: lambda value, level: _ext(PAYLOAD, b"")}

_defaults: list[Default] = [_make_default(level) for level in range(MAX_EXTENSION_NESTING + 1)]
_idle: list[Any] = []
_idle_inside: list[list[Any]] = [[] for _ in _defaults]


# --- reading -----------------------------------------------------------------------------------------------


def unpack(raw: bytes) -> Any:
    """The value in the bytes. Raises ProtocolError for anything but one whole, well-formed value."""
    return unpack_with(raw, HOOK)


def unpack_with(raw: bytes, hook: Hook) -> Any:
    """As `unpack`; `hook` (see `make_hook`) reads the outermost extensions."""
    try:
        if len(raw) > TRUSTED_SIZE:
            raw = bytes(raw)  # the very same object, unless it is a view of something
            _check_claims(raw)
            if len(raw) > COLLIDING_SIZE and _may_collide(raw):
                return unpackb(raw, ext_hook=hook, strict_map_key=False, timestamp=3, object_pairs_hook=_map_of)
        return unpackb(raw, ext_hook=hook, strict_map_key=False, timestamp=3)
    except StackError:
        return _items_one_by_one(raw, hook)
    except ProtocolError:
        raise
    except Exception as exc:
        raise ProtocolError(f"not a well-formed value: {exc or type(exc).__name__}") from exc


def _check_claims(raw: bytes) -> None:
    """Raise an error if an array claims more items than follow.

    The reader allocates a list of the claimed length (at most the document's length) at once, on each of 1024 levels, so that
    64 KiB could allocate 512 MiB. Skipping through the document allocates nothing, and finds an array that has too few items.
    It costs as much as reading, so it is not done if few bytes of the document can open a long array.
    """
    if b"\xdc" not in raw and b"\xdd" not in raw:
        return
    size = len(raw)
    # In a large document, counting these bytes takes longer than skipping.
    if size > COUNTED_SIZE or POINTER * size * (raw.count(b"\xdc") + raw.count(b"\xdd")) > MAX_WASTE:
        unpacker = Unpacker(max_buffer_size=len(raw))
        unpacker.feed(raw)
        unpacker.skip()


#: The first bytes of extensions of 8 bytes and more, and of those whose length is written out.
_EXTENSIONS = tuple(bytes((first,)) for first in (0xC7, 0xC8, 0xC9, 0xD7, 0xD8))


def _may_collide(raw: bytes) -> bool:
    return sum(map(raw.count, _EXTENSIONS)) > MAX_UNSALTED


def _map_of(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len(pairs) > MAX_UNSALTED:
        _check_hashes([key for key, _ in pairs])
    return dict(pairs)


def _check_hashes(keys: list[Any]) -> None:
    """Raise ProtocolError if many different keys have the same hash, because putting n of them into a map takes n * n steps."""
    [(hash_, count)] = Counter(map(hash, keys)).most_common(1)
    if count > MAX_ONE_HASH and len({repr(key)[:200] for key in keys if hash(key) == hash_}) > MAX_ONE_HASH:
        raise ProtocolError(f"{count:,} keys of a map, or items of a set, have the same hash")


def _items_one_by_one(raw: bytes, hook: Hook) -> list[Any]:
    """The items of a short array that is nested one level deeper than the reader goes.

    The writer of msgpack goes one level deeper than its reader. Such a body must not be refused, because that would end the
    whole connection.
    """
    count, rest = raw[0] - 0x90, raw[1:]
    if not 0 <= count <= 15:
        raise ProtocolError("arrays and maps are nested too deep")
    try:
        skipper = Unpacker(max_buffer_size=len(raw))
        skipper.feed(rest)
        for _ in range(count):
            skipper.skip()
        if skipper.tell() != len(rest):
            raise ProtocolError("bytes after the end of the value")
        reader = Unpacker(ext_hook=hook, strict_map_key=False, timestamp=3, max_buffer_size=len(raw))
        reader.feed(rest)
        return [reader.unpack() for _ in range(count)]
    except ProtocolError:
        raise
    except Exception as exc:
        raise ProtocolError(f"not a well-formed value: {exc or type(exc).__name__}") from exc


def make_hook(level: int, on_payload: Callable[[bytes], Any] | None = None) -> Hook:
    """A function that reads extensions inside `level` tuples and sets. `on_payload` reads the placeholder of a payload."""

    def hook(code: int, raw: bytes) -> Any:
        read = extensions.READERS.get(code)
        if read is not None:
            return read(raw)
        make = _COLLECTIONS.get(code)
        if make is None:
            if code == PAYLOAD and on_payload is not None:
                return on_payload(raw)
            raise ProtocolError(f"extension {code} is not one of the protocol")
        if level == MAX_EXTENSION_NESTING:
            raise ProtocolError(f"more than {MAX_EXTENSION_NESTING} tuples or sets within each other")
        items = unpack_with(raw, _hooks[level + 1])
        if type(items) is not list:
            raise ProtocolError("a tuple or set that holds no array")
        if len(items) > MAX_UNSALTED and make is not tuple:
            _check_hashes(items)
        return make(items)

    return hook


_COLLECTIONS: dict[int, Callable[[list[Any]], Any]] = {TUPLE: tuple, SET: set, FROZENSET: frozenset}
_hooks: list[Hook] = [make_hook(level) for level in range(MAX_EXTENSION_NESTING + 1)]
#: The function that reads the extensions of a value without a payload frame.
HOOK = _hooks[0]
