"""What `zmqservices top` shows of a cluster: a row for each service and each instance, made of what nodes answer to `stats`.

Pure: answers and times in, rows out.

Rule 1: a rate is that of the last WINDOW seconds, by the node's own clock; none before the second answer.
Rule 2: counts of two answers are compared only while the process and the beginning of its counts are the same (see `Recent`).
Rule 3: an instance that was there and is not listed any more is shown as gone for KEPT seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from zmqservices.cluster.calls.identity import owner_of
from zmqservices.observability.histogram import Histogram
from zmqservices.observability.recent import Recent

#: Seconds of which rates and quantiles are made, and for which a row of what is gone is kept.
WINDOW, KEPT = 5.0, 15.0

#: States that a row has besides those of records: a node that does not answer in time, and one that is not there.
SILENT, GONE = "SILENT", "GONE"


@dataclass(frozen=True)
class Listed:
    """An instance as the directory lists it: `node` is the address at which its node is asked, "" where there is none."""

    service: str
    instance: str
    state: str
    node: str
    host: str


@dataclass
class ClusterRow:
    """One line. Rates are per second, times in seconds; None for what is not known."""

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
    #: Since the beginning of the counts.
    calls: int | None = None
    errors: int | None = None
    #: Events that wait for handlers of the service, and dead letters; in the row of the service.
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
    """What one answer says of one instance."""

    count: int
    errors: int
    durations: Histogram
    told: Mapping[str, Any]


@dataclass
class _Node:
    problem: str = ""
    #: What the problem makes of the state: GONE, SILENT, or "" where it says nothing of the node.
    state: str = ""
    answer: Mapping[str, Any] | None = None


@dataclass
class _Known:
    listed: Listed
    counts: Recent[_Counts] = field(default_factory=lambda: Recent(WINDOW))
    #: When it was not listed for the first time; None while it is.
    gone_since: float | None = None


class ClusterRows:
    """Told what is listed and what nodes answer; `rows` are what that comes to."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._nodes: dict[str, _Node] = {}

    def update(self, listed: Iterable[Listed], now: float) -> None:
        """What the directory lists now (`now`: monotonic)."""
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
        """A node answered `stats`."""
        self._nodes[address] = _Node(answer=answer)
        for told in answer.get("instances", []):
            known = self._known.get(told.get("instance"))
            if known is not None:
                known.counts.add(answer, _counts(told))

    def failed(self, address: str, problem: str, state: str) -> None:
        """A node did not answer: nothing is there (GONE), it took too long (SILENT), or it refused ("")."""
        self._nodes[address] = _Node(problem, state)

    def rows(self) -> list[tuple[ClusterRow, list[ClusterRow]]]:
        """The row of each service with those of its instances, by name."""
        by_service: dict[str, list[tuple[_Known, ClusterRow]]] = {}
        for known in self._known.values():
            by_service.setdefault(known.listed.service, []).append((known, self._row(known)))
        backlogs = self._backlogs()
        for service, waits in backlogs.items():
            if any(waits):
                by_service.setdefault(service, [])  # Its handlers are all away.
        made = []
        for service, found in sorted(by_service.items()):
            total = _total(service, found)
            if service in backlogs:
                total.backlog, total.dead_letters = backlogs[service]
            made.append((total, sorted((row for _, row in found), key=lambda row: row.instance)))
        return made

    def _row(self, known: _Known) -> ClusterRow:
        listed, node = known.listed, self._nodes.get(known.listed.node)
        row = ClusterRow(listed.service, listed.instance, listed.state, host=listed.host)
        if known.gone_since is not None:
            row.state = GONE
        elif node is not None and node.problem:
            row.problem = node.problem
            # A record that says why no calls go there tells more than that the node is silent.
            row.state = node.state if node.state == GONE or node.state and listed.state == "UP" else listed.state
        if row.state != GONE and len(known.counts) and node is not None and node.answer is not None:
            _fill(row, known.counts, node.answer)
        return row

    def _backlogs(self) -> dict[str, tuple[int, int]]:
        """Events that wait and dead letters, by the service that handles them; those of a SINGLETON stand at their source."""
        rows = {
            (one["source"], one["group"], one["journal"]): one
            for node in self._nodes.values()
            if node.answer is not None
            for one in node.answer.get("groups", [])
        }
        sums: dict[str, tuple[int, int]] = {}
        for (source, group, _), one in rows.items():
            owner = source if group.startswith(f"{source}:") else owner_of(group) or group
            waiting, dead = sums.get(owner, (0, 0))
            sums[owner] = (waiting + one.get("waiting", 0), dead + one.get("dead_letters", 0))
        return sums


def _counts(told: Mapping[str, Any]) -> _Counts:
    durations, count, errors = Histogram(), 0, 0
    for method in told.get("methods", []):
        count += method["count"]
        errors += sum(method["errors"].values())
        durations.add(Histogram.from_dict(method["durations"]))
    return _Counts(count, errors, durations, told)


def _fill(row: ClusterRow, kept: Recent[_Counts], answer: Mapping[str, Any]) -> None:
    last, first = kept.newest, kept.oldest
    row.in_flight, row.queue = last.told.get("running"), last.told.get("queued")
    row.workers = last.told.get("max_workers")
    row.calls, row.errors = last.count, last.errors
    row.uptime, row.version = answer.get("uptime"), str(answer.get("version", ""))
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
    total.uptime = min((row.uptime for row in rows if row.uptime is not None), default=None)
    return total


# --- order and choice ---------------------------------------------------------------------------------------------------


def _number(name: str) -> Callable[[ClusterRow], Any]:
    def key(row: ClusterRow) -> Any:
        value = getattr(row, name)
        return -1.0 if value is None else value

    return key


#: How rows may be sorted: by name, or the largest first.
SORTS: dict[str, Callable[[ClusterRow], Any]] = {
    "name": lambda row: (row.service, row.instance),
    "rate": _number("rate"),
    "p99": _number("p99"),
    "flight": _number("in_flight"),
    "queue": _number("queue"),
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
    """One list: each service, with its instances below it. `wanted`: a part of the names of services, instances or hosts."""
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
