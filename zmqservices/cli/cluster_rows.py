"""The rows of `zmqservices top`: one for each service and each instance, made from the answers of nodes to `stats`.

Pure: answers and times in, rows out.

Rule 1: a rate covers the last WINDOW seconds by the node's own clock. There is none before the second answer.
Rule 2: two answers are compared only if they come from the same process, which has not reset its counts (see `Recent`).
Rule 3: an instance that is not listed any more is shown as GONE for KEPT seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from zmqservices.cluster.calls.identity import owner_of
from zmqservices.observability.histogram import Histogram
from zmqservices.observability.recent import Recent

Number = TypeVar("Number", int, float)

#: Seconds that rates and quantiles cover, and seconds for which the row of a removed instance is kept.
WINDOW, KEPT = 5.0, 15.0

#: States of a row besides those of records: the node does not answer in time; nothing listens at its address.
SILENT, GONE = "SILENT", "GONE"


@dataclass(frozen=True)
class Listed:
    """An instance as the directory lists it. `node` is the address at which its node answers operators; "" if it has none."""

    service: str
    instance: str
    state: str
    node: str
    host: str


@dataclass
class ClusterRow:
    """One row. Rates are per second, times in seconds; None for an unknown value."""

    service: str
    #: "" in the row of the service.
    instance: str
    state: str
    instances: int = 1
    host: str = ""
    rate: float | None = None
    error_rate: float | None = None
    p50: float | None = None
    p99: float | None = None
    in_flight: int | None = None
    workers: int | None = None
    queue: int | None = None
    #: How long the longest running call has run, in seconds.
    oldest: float | None = None
    #: All since the node began to count.
    calls: int | None = None
    errors: int | None = None
    #: Events that wait for handlers of the service, and its dead letters; only in the row of a service.
    backlog: int | None = None
    dead_letters: int | None = None
    uptime: float | None = None
    version: str = ""
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass
class _Counts:
    """The counts of one instance in one answer."""

    count: int
    errors: int
    durations: Histogram
    running: int | None
    queued: int | None
    workers: int | None
    oldest: float | None


@dataclass
class _Node:
    problem: str = ""
    #: The state that follows from the problem: GONE, SILENT, or "" if none follows.
    state: str = ""
    #: What its last answer told; None if it did not answer.
    told: _Told | None = None


@dataclass
class _Told:
    """What an answer tells of the node, read in full: an answer of another form is a problem of its node alone."""

    uptime: float | None
    version: str
    #: By service: the calls that wait at the node, which knows no instance to call.
    held: dict[str, int]
    #: Waiting events and dead letters by source, group and journal.
    backlogs: dict[tuple[str, str, str], tuple[int, int]]


@dataclass
class _Known:
    listed: Listed
    counts: Recent[_Counts] = field(default_factory=lambda: Recent(WINDOW))
    #: Since when it is not listed any more (monotonic); None while it is listed.
    gone_since: float | None = None


class ClusterRows:
    """Collects the instances that are listed and the answers of nodes; `rows` returns the rows."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._nodes: dict[str, _Node] = {}

    def update(self, listed: Iterable[Listed], now: float) -> None:
        """The directory lists these instances at `now` (monotonic)."""
        current = {one.instance: one for one in listed}
        for instance, one in current.items():
            known = self._known.setdefault(instance, _Known(one))
            known.listed, known.gone_since = one, None
        for instance, known in list(self._known.items()):
            if instance not in current:
                known.gone_since = now if known.gone_since is None else known.gone_since
                if now - known.gone_since > KEPT:
                    del self._known[instance]
        nodes = {known.listed.node for known in self._known.values()}
        self._nodes = {address: node for address, node in self._nodes.items() if address in nodes}

    def answered(self, address: str, answer: Mapping[str, Any]) -> None:
        """A node answered `stats`. Raises KeyError, TypeError, ValueError, AttributeError or OverflowError for another form."""
        told = _told(answer)
        counts = [(self._known.get(one.get("instance")), _counts(one)) for one in answer.get("instances", [])]
        self._nodes[address] = _Node(told=told)
        for known, one in counts:
            if known is not None:
                known.counts.add(answer, one)

    def failed(self, address: str, problem: str, state: str) -> None:
        """A node did not answer: nothing is there (GONE), it took too long (SILENT), or it refused ("")."""
        self._nodes[address] = _Node(problem, state)

    def rows(self) -> list[tuple[ClusterRow, list[ClusterRow]]]:
        """The row of each service, with the rows of its instances, sorted by name."""
        by_service: dict[str, list[tuple[_Known, ClusterRow]]] = {}
        for known in self._known.values():
            by_service.setdefault(known.listed.service, []).append((known, self._row(known)))
        backlogs = self._backlogs()
        for service, waits in backlogs.items():
            if any(waits):
                by_service.setdefault(service, [])  # All instances with its handlers have gone.
        waiting = self._waiting_for_instances()
        for service in waiting:
            by_service.setdefault(service, [])  # The service is called although no instance of it is listed.
        made = []
        for service, found in sorted(by_service.items()):
            total = _total(service, found)
            if service in backlogs:
                total.backlog, total.dead_letters = backlogs[service]
            if service in waiting:
                total.problem = f"calls that wait for an instance: {waiting[service]}"
            made.append((total, sorted((row for _, row in found), key=lambda row: row.instance)))
        return made

    def _row(self, known: _Known) -> ClusterRow:
        listed, node = known.listed, self._nodes.get(known.listed.node)
        row = ClusterRow(listed.service, listed.instance, listed.state, host=listed.host)
        if known.gone_since is not None:
            row.state = GONE
        elif node is not None and node.problem:
            row.problem = node.problem
            # A record in another state than UP says why no calls go there, which tells more than SILENT.
            row.state = node.state if node.state == GONE or node.state and listed.state == "UP" else listed.state
        if row.state != GONE and len(known.counts) and node is not None and node.told is not None:
            _fill(row, known.counts, node.told)
        return row

    def _waiting_for_instances(self) -> dict[str, int]:
        """By service: the calls that wait at their callers, which know no instance to call."""
        held: dict[str, int] = {}
        for node in self._nodes.values():
            for service, count in (node.told.held if node.told else {}).items():
                held[service] = held.get(service, 0) + count
        return held

    def _backlogs(self) -> dict[str, tuple[int, int]]:
        """Waiting events and dead letters by the service that handles them; those of a SINGLETON handler by their source."""
        rows: dict[tuple[str, str, str], tuple[int, int]] = {}
        for node in self._nodes.values():
            rows.update(node.told.backlogs if node.told else {})
        sums: dict[str, tuple[int, int]] = {}
        for (source, group, _), (more, more_dead) in rows.items():
            owner = source if group.startswith(f"{source}:") else owner_of(group) or group
            waiting, dead = sums.get(owner, (0, 0))
            sums[owner] = (waiting + more, dead + more_dead)
        return sums


def _told(answer: Mapping[str, Any]) -> _Told:
    held: dict[str, int] = {}
    for callee in answer.get("callees", ()):
        if callee["held"] and not callee["instances"]:
            service = str(callee["service"])
            held[service] = held.get(service, 0) + int(callee["held"])
    backlogs = {}
    for one in answer.get("groups", ()):
        key = (str(one["source"]), str(one["group"]), str(one["journal"]))
        backlogs[key] = int(one.get("waiting", 0)), int(one.get("dead_letters", 0))
    return _Told(_optional(float, answer.get("uptime")), str(answer.get("version", "")), held, backlogs)


def _optional(kind: Callable[[Any], Number], value: object) -> Number | None:
    return None if value is None else kind(value)


def _counts(told: Mapping[str, Any]) -> _Counts:
    durations, count, errors = Histogram(), 0, 0
    for method in told.get("methods", []):
        count += int(method["count"])
        errors += sum(map(int, method["errors"].values()))
        durations.add(Histogram.from_dict(method["durations"]))
    running, queued, workers = (_optional(int, told.get(name)) for name in ("running", "queued", "max_workers"))
    oldest = max((float(one["seconds"]) for one in told.get("longest", ())), default=None)
    return _Counts(count, errors, durations, running, queued, workers, oldest)


def _fill(row: ClusterRow, kept: Recent[_Counts], told: _Told) -> None:
    last, first = kept.newest, kept.oldest
    row.in_flight, row.queue, row.workers, row.oldest = last.running, last.queued, last.workers, last.oldest
    row.calls, row.errors = last.count, last.errors
    row.uptime, row.version = told.uptime, told.version
    seconds = kept.seconds
    if seconds > 0:
        row.rate = (last.count - first.count) / seconds
        row.error_rate = (last.errors - first.errors) / seconds
        recent = last.durations.since(first.durations)
        row.p50, row.p99 = recent.quantile(0.5), recent.quantile(0.99)


def _total(service: str, found: list[tuple[_Known, ClusterRow]]) -> ClusterRow:
    rows = [row for _, row in found]
    states = [row.state for row in rows]
    up = states.count("UP")
    total = ClusterRow(service, "", f"{up}/{len(rows)} up", instances=len(rows))
    for name in ("rate", "error_rate", "in_flight", "workers", "queue", "calls", "errors"):
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        setattr(total, name, sum(values) if values else None)
    recent = Histogram()
    for known, row in found:
        if row.rate is not None:
            recent.add(known.counts.newest.durations.since(known.counts.oldest.durations))
    total.p50, total.p99 = recent.quantile(0.5), recent.quantile(0.99)
    total.version = ", ".join(sorted({row.version for row in rows if row.version}))
    total.oldest = max((row.oldest for row in rows if row.oldest is not None), default=None)
    total.uptime = min((row.uptime for row in rows if row.uptime is not None), default=None)
    return total


# --- order and choice ---------------------------------------------------------------------------------------------------


def _number(name: str) -> Callable[[ClusterRow], Any]:
    def key(row: ClusterRow) -> Any:
        value = getattr(row, name)
        return -1.0 if value is None else value

    return key


#: The orders in which rows may be sorted: by name, or by a number, the largest first.
SORTS: dict[str, Callable[[ClusterRow], Any]] = {
    "name": lambda row: (row.service, row.instance),
    "rate": _number("rate"),
    "p99": _number("p99"),
    "flight": _number("in_flight"),
    "queue": _number("queue"),
    "oldest": _number("oldest"),
    "errors": _number("error_rate"),
    "backlog": _number("backlog"),
}


def arranged(
    rows: Iterable[tuple[ClusterRow, list[ClusterRow]]],
    sort: str = "name",
    is_reversed: bool = False,
    wanted: str = "",
    with_instances: bool = True,
) -> list[ClusterRow]:
    """One list: each service, with its instances below it. `wanted`: a part of the name of a service, an instance or a host."""
    key = SORTS[sort]
    largest_first = (sort != "name") is not is_reversed
    text = wanted.casefold()
    made: list[ClusterRow] = []
    for service, instances in sorted(rows, key=lambda pair: key(pair[0]), reverse=largest_first):
        fitting = [one for one in instances if text in f"{one.service} {one.instance} {one.host} {one.state}".casefold()]
        if text and not fitting and text not in service.service.casefold():
            continue
        made.append(service)
        if with_instances:
            made += sorted(fitting, key=key, reverse=largest_first)
    return made
