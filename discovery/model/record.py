"""The record of one service instance.

Internal. Programs import it from `discovery`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from discovery.exceptions import DirectoryProtocolError
from discovery.model.quoting import quoted
from discovery.model.record_fields import FIELDS
from discovery.model.usual_records import is_usual
from discovery.model.values import DEFAULT_NAMESPACE, DEFAULT_TTL, is_signed


@dataclass(frozen=True, slots=True)
class Record:
    """Please list this instance of `service` until it has been silent for `ttl` seconds.

    `instance` is fresh per start; several records (services of one process) may share a `node`. `incarnation`
    distinguishes starts, `version` grows with each change of the record. `endpoints` maps a kind ("rpc",
    "events") to an IP address and port; `methods` maps a method's name to its description. `signed`: in a closed cluster,
    the whole record as the node signed it (see `discovery.security.envelopes`). It may differ between two equal records.
    """

    service: str
    instance: str
    node: str = ""
    incarnation: int = 0
    version: int = 0
    namespace: str = DEFAULT_NAMESPACE
    endpoints: dict[str, str] = field(default_factory=dict)
    state: str = "UP"
    ttl: float = DEFAULT_TTL
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    subscriptions: list[Any] = field(default_factory=list)
    public_key: str | None = None
    zone: str | None = None
    weight: float = 1.0
    tags: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    pid: int = 0
    signed: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def rank(self) -> tuple[int, int]:
        """(incarnation, version): of two records of an instance the higher rank wins."""
        return (self.incarnation, self.version)

    def __hash__(self) -> int:
        return hash((self.namespace, self.instance, self.incarnation, self.version))

    def replace(self, **changes: Any) -> Record:
        """A copy with these fields changed and, unless given, the version one higher."""
        changes.setdefault("version", self.version + 1)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, shared with the record, not copied."""
        fields = {name: getattr(self, name) for name in FIELDS}
        if self.signed is not None:
            fields["signed"] = self.signed
        return fields

    @classmethod
    def from_dict(cls, fields: object) -> Record:
        """The record that `to_dict` gave. Unknown keys are ignored. DirectoryProtocolError for anything else.

        Records share equal `methods`, `subscriptions` and `tags`, so these must not be changed in place.
        """
        if not isinstance(fields, Mapping):
            raise DirectoryProtocolError(f"a record is {type(fields).__name__}; a mapping is needed")
        if type(fields) is dict and is_usual(fields):
            values = _in_order(fields)
            if "signed" in fields:
                values = (*values, fields["signed"])
            return cls(*values)
        known: dict[str, Any] = {}
        for name, (is_right, wanted) in FIELDS.items():
            if name in fields:
                value = fields[name]
                if not is_right(value):
                    raise DirectoryProtocolError(f"{name} of a record is {quoted(value)}; {wanted} is needed")
                known[name] = value
            elif name in ("service", "instance"):
                raise DirectoryProtocolError(f"a record without {name}")
        signed = fields.get("signed")
        if not is_signed(signed):
            raise DirectoryProtocolError(f"signed of a record is {quoted(signed)}; bytes are needed")
        return cls(**known, signed=signed)


#: The values of a record's fields, in their order.
_in_order: Callable[[dict[str, Any]], tuple[Any, ...]] = itemgetter(
    "service", "instance", "node", "incarnation", "version", "namespace", "endpoints", "state", "ttl", "methods", "subscriptions",
    "public_key", "zone", "weight", "tags", "host", "pid",
)  # fmt: skip
