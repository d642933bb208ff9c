"""Judges the outcome of every call and every event: which outcomes are allowed, and which are faults.

Rule 1: pure but for `CallerFile`, which reads what a caller wrote.
Rule 2: what may be stands in `faults_of`, and nowhere else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.chaos.caller import KINDS, Kind

#: Seconds after its deadline within which a call must have ended, besides those for which its process's loop stood still.
GRACE = 0.1

#: Errors that leave it open whether the method ran.
IN_DOUBT = ("MaybeExecuted", "RpcTimeout")


class Span(NamedTuple):
    """From one moment to another, of the monotonic clock."""

    begin: float
    end: float

    def overlap(self, other: Span) -> float:
        return max(0.0, min(self.end, other.end) - max(self.begin, other.begin))


@dataclass
class Call:
    """One call, as its caller wrote it down. `ended` is None while it is under way."""

    number: int
    kind: str
    began: float
    ended: float | None = None
    pid: int | None = None
    error: str = ""
    text: str = ""
    retryable: bool = False

    @property
    def is_of(self) -> Kind:
        return KINDS[self.kind]

    @property
    def deadline(self) -> float:
        return self.began + self.is_of.timeout

    def __str__(self) -> str:
        after = "has not ended" if self.ended is None else f"ended after {self.ended - self.began:.2f} s"
        return f"call {self.number} ({self.kind}, begun at {self.began:.2f}) {after}: {self.error or self.pid} {self.text}"


class CallerFile:
    """What one caller wrote. `host` is where it runs; `was_killed` says that calls of it may not have ended."""

    def __init__(self, path: Path, host: int) -> None:
        self.path, self.host = path, host
        self.was_killed = self.is_over = False
        self.calls: dict[int, Call] = {}
        self.stalls: list[Span] = []
        self._read = 0

    def read_on(self) -> None:
        """Take what was added, up to the last whole line."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        for text in whole.splitlines():
            self._take(json.loads(text))

    def _take(self, line: dict[str, Any]) -> None:
        if "b" in line:
            self.calls[line["b"]] = Call(line["b"], line["kind"], line["at"])
        elif "e" in line:
            call = self.calls[line["e"]]
            call.ended, call.pid = line["at"], line.get("pid")
            call.error, call.text, call.retryable = line.get("error", ""), line.get("text", ""), line.get("retryable", False)
        elif "s" in line:
            self.stalls.append(Span(line["at"], line["at"] + line["s"]))
        else:
            self.is_over = line["over"]

    def stalled(self, span: Span) -> float:
        """Seconds within `span` for which the caller's event loop stood still."""
        return sum(stall.overlap(span) for stall in self.stalls)


def faults_of(call: Call, executed: int, stalled: float, is_alone: bool, was_killed: bool) -> Iterable[str]:
    """What is wrong with how a call ended. `executed`: how often it ran. `stalled`: seconds that its process lost after its
    deadline. `is_alone`: no instance could be reached from its host at some time while it ran. `was_killed`: its process was."""
    kind = call.is_of
    if not kind.is_idempotent and executed > 1:
        yield f"ran {executed} times"
    if call.ended is None:
        if not was_killed:
            yield "never ended"
        return
    if call.ended > call.deadline + GRACE + stalled:
        yield f"ended {call.ended - call.deadline:.2f} s after its deadline (its event loop stood still for {stalled:.2f} s)"
    if not call.error:
        if not executed:
            yield "was answered, and never ran"
    elif kind.is_idempotent:
        if not is_alone:
            yield "failed though it is idempotent and an instance could be reached"
    elif call.error == "RpcTimeout":
        if executed and kind.timeout > 1.0 and not is_alone:
            yield "ran, and its caller was not told before its deadline that its instance was lost"
    elif call.error != "MaybeExecuted" and (executed or not call.retryable):
        yield f"ended in {call.error}, and ran" if executed else f"ended in {call.error}"


@dataclass
class Account:
    """The sum of one scenario."""

    calls: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    #: The longest call, and how long after its deadline the latest of all ended, in seconds.
    slowest: float = 0.0
    latest: float = 0.0
    stalled: float = 0.0
    events: int = 0
    refused_events: int = 0
    events_twice: int = 0
    healed_after: float = 0.0
    #: Whether the scenario could not be ended as it should: what comes after it would show nothing.
    is_over: bool = False
    faults: list[str] = field(default_factory=list)

    def add(
        self, file: CallerFile, span: Span, executed: Mapping[int, int], alone: Sequence[Span], may_fail: bool = True
    ) -> None:
        """The calls that one caller began within `span`. `alone`: when no instance could be reached from its host. `may_fail`:
        whether calls that are not idempotent may fail, for instances are lost."""
        for call in file.calls.values():
            if not span.begin <= call.began < span.end:
                continue
            ended = call.deadline + GRACE if call.ended is None else call.ended
            stalled = file.stalled(Span(call.deadline, ended))
            is_alone = any(Span(call.began, ended).overlap(one) for one in alone)
            self.calls += 1
            self.outcomes[outcome_of(call)] += 1
            if call.error:
                self.errors[f"{call.kind} {call.error}"] += 1
                if not may_fail and call.kind != "brief":
                    self.faults.append(f"{call}: failed where no call may")
            if call.ended is not None:
                self.slowest = max(self.slowest, call.ended - call.began)
                self.latest = max(self.latest, call.ended - call.deadline)
            found = faults_of(call, executed.get(call.number, 0), stalled, is_alone, file.was_killed)
            self.faults += [f"{call}: {fault}" for fault in found]
        self.stalled = max([self.stalled, *(s.end - s.begin for s in file.stalls if s.overlap(span))])


def outcome_of(call: Call) -> str:
    """The column that it is counted in."""
    if call.ended is None:
        return "lost with its caller"
    if not call.error:
        return "answered"
    return "in doubt" if call.error in IN_DOUBT else "refused"
