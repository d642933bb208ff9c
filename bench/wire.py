"""The wire alone: how long a message takes to be written and read, without a socket, beside bare msgpack.

For judging a change of the codec in seconds. Figures are the best of several repeats: what disturbs only ever adds.
"""

from __future__ import annotations

import os
import timeit
from collections.abc import Callable, Iterator
from typing import Any

from bench import machine, summary, table
from bench.cases import KIB, MIB

HEADERS = {"call_id_stack": ["standalone_rpc_client.0123456789ab.17"], "language": "en", "user_id": "4711"}
ROW = {"id": 4711, "name": "Ada", "tags": ["a", "b", "c"], "price": 12.5, "known": True, "note": None, "at": 1700000000}


def operations() -> dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]]:
    """Each operation, and the bare msgpack that does the least of the same (None: there is none)."""
    import msgpack

    from zmqservices.wire import envelope

    pack, unpack = msgpack.Packer().pack, msgpack.unpackb
    made: dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]] = {}

    def call(title: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, headers: dict[str, Any] | None) -> None:
        frames = envelope.encode_call(17, "maths", "add", args, kwargs, 29.5, headers)
        bare = [17, "add", args, kwargs, headers]
        packed = pack(bare)
        made[f"encode call, {title}"] = (
            lambda: envelope.encode_call(17, "maths", "add", args, kwargs, 29.5, headers), lambda: pack(bare),
        )  # fmt: skip
        made[f"decode call, {title}"] = _decoding(frames), lambda: unpack(packed)

    def result(title: str, value: Any) -> None:
        frames = envelope.encode_result(17, value)
        bare = [17, value]
        packed = pack(bare)
        made[f"encode result, {title}"] = lambda: envelope.encode_result(17, value), lambda: pack(bare)
        made[f"decode result, {title}"] = _decoding(frames), lambda: unpack(packed)

    call("add(2, 3)", (2, 3), None, None)
    call("add(2, 3) with context", (2, 3), None, HEADERS)
    call("a row by keyword, with context", (), {"row": ROW}, HEADERS)
    result("5", 5)
    result("a row", ROW)
    result("100 rows", [ROW] * 100)
    for title, size in (("1 KiB", KIB), ("64 KiB", 64 * KIB), ("1 MiB", MIB)):
        blob = os.urandom(size)
        call(title, (blob,), None, None)
        result(title, blob)
    return made


def _decoding(frames: Any) -> Callable[[], Any]:
    from zmqservices.wire import envelope

    if isinstance(frames, tuple):
        body, payload = frames
        return lambda: envelope.decode(body, payload)
    return lambda: envelope.decode(frames)


def nanoseconds(operation: Callable[[], Any], repeats: int, seconds: float) -> float:
    """Of one run of `operation`: the best of `repeats`, each of about `seconds`."""
    timer = timeit.Timer(operation)
    count, taken = 1, 0.0
    while taken < seconds / 10:
        count *= 4
        taken = timer.timeit(count)
    count = max(int(count * seconds / taken), 1)
    return min(timer.repeat(repeats, count)) / count * 1e9


def run(repeats: int, seconds: float) -> Iterator[dict[str, Any]]:
    """A line per operation."""
    for name, (operation, bare) in operations().items():
        line = {"kind": "wire", "operation": name, "ns": round(nanoseconds(operation, repeats, seconds), 1)}
        if bare is not None:
            line["bare_ns"] = round(nanoseconds(bare, repeats, seconds), 1)
        yield {**line, **machine.facts()}


def rows(lines: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; of an operation that was measured several times, the median."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "wire":
            by_name.setdefault(line["operation"], []).append(line)
    found = []
    for name, measured in by_name.items():
        ours, bare = (summary.median(line[key] for line in measured if key in line) for key in ("ns", "bare_ns"))
        found.append([name, table.number(ours), table.number(bare), table.number(ours / bare, 2)])
    return ["", "ns", "bare msgpack ns", "ratio"], found


def text(lines: list[dict[str, Any]]) -> str:
    return table.grid(*rows(lines))
