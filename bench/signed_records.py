"""Measures the processor time that signatures of records cost a client: `python -m bench.signed_records [RECORDS]`.

Each record is that of an instance with five methods. One in a hundred has a certificate that was not seen before.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from discovery import Record, protocol
from discovery.security.authority import Authority
from discovery.security.envelopes import Signer, Verifier, own_id
from discovery.security.keys import Keys

_T = TypeVar("_T")
METHODS = {f"method_{number}": {"params": [["a", None], ["b", 1]], "idempotent": False} for number in range(5)}


def _record(number: int, keys: Keys) -> Record:
    return Record(
        "maths",
        own_id(keys, f"{number:012x}"),
        node=f"{number:012x}",
        incarnation=1,
        version=1,
        endpoints={"rpc": f"tcp://10.0.{number // 250}.{number % 250}:4000"},
        methods=METHODS,
        public_key=keys.pair.public.hex(),
        host="host",
        pid=7,
    )


def _timed(what: str, each: Callable[[_T], object], values: Iterable[_T]) -> list[object]:
    values = list(values)
    began = time.process_time()
    made = [each(value) for value in values]
    print(f"{what:34} {(time.process_time() - began) / len(values) * 1e6:8.1f} us a record")
    return made


def main(count: int) -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.create(Path(folder) / "cluster")
        nodes = [Keys.read(authority.issue(f"n{n}", {"registers": ("maths",)})) for n in range(max(1, count // 100))]
        verifier = Verifier(Keys.read(authority.issue("reader")))
    plain = [_record(number, nodes[number % len(nodes)]) for number in range(count)]
    signers = {keys.pair.public.hex(): Signer(keys) for keys in nodes}
    signed = _timed("sign", lambda one: signers[one.public_key or ""].record(one), plain)
    sizes = []
    for name, records in (("plain", plain), ("signed", signed)):
        packed = [protocol.pack(one.to_dict()) for one in records]  # type: ignore[attr-defined]
        sizes.append(sum(map(len, packed)) // count)
        _timed(f"decode, {name}", lambda one: Record.from_dict(protocol.unpack(one)), packed)
    _timed("verify, the first time", verifier.record, signed)  # type: ignore[arg-type]
    _timed("verify, what is known", verifier.record, signed)  # type: ignore[arg-type]
    print(f"{'size':34} {sizes[0]} bytes plain, {sizes[1]} signed")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
