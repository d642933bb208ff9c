"""The counts of a process up to now and the sizes of its parts, as plain values.

Internal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zmqservices import probes
from zmqservices.containers import ServiceContainer
from zmqservices.observability.histogram import Histogram
from zmqservices.observability.last_errors import LastError
from zmqservices.observability.statistics import MOST_SERIES, OTHER, Outcomes, Statistics, Worked
from zmqservices.probes import Measure

#: The most long-running calls that are listed for an instance, and the most characters of an id, which the caller chose.
MOST_LONGEST, LONGEST_CALL_ID = 5, 200

#: The measures of a group of event handlers, by the keys of a row of `groups`.
OF_GROUP = {
    "events_waiting": "waiting",
    "events_oldest_age": "oldest_age",
    "events_in_flight": "in_flight",
    "dead_letters": "dead_letters",
    "group_members": "members",
}


def snapshot(
    statistics: Statistics, containers: Iterable[ServiceContainer], brief: bool = False, after: int = 0
) -> dict[str, Any]:
    """The part of the answer to `stats` that needs no node. `brief`: without tracebacks and `measures`."""
    measures = list(probes.measures())
    return {
        "since": statistics.since,
        "in_flight": next((int(one.value) for one in measures if one.name == "calls_in_flight"), 0),
        "instances": [_instance(statistics, container, brief) for container in containers],
        "requests": [
            {"service": service, "method": method, "route": route, "status": status, **_counted(histogram)}
            for (service, method, route, status), histogram in list(statistics.requests.items())
        ],
        "refused": [
            {"service": service, "method": method, "reason": reason, "count": count}
            for (service, method, reason), count in list(statistics.refused.counts.items())
        ],
        "unstarted": [
            {"service": service, "error": error, "count": count}
            for (service, error), count in list(statistics.unstarted.counts.items())
        ],
        "calls": [
            {"caller": caller, "service": service, "method": method, **_outcomes(outcomes)}
            for (caller, service, method), outcomes in list(statistics.calls.items())
        ],
        "dispatched": [
            {"source": source, "type": type, **_outcomes(outcomes)}
            for (source, type), outcomes in list(statistics.dispatched.items())
        ],
        "groups": _groups(statistics, measures),
        "errors": [_error(one, brief) for one in statistics.errors],
        "timeline": [one._asdict() for one in statistics.timeline if one.number > after],
        "measures": [] if brief else [[measure.name, measure.value, dict(measure.labels)] for measure in measures],
    }


def _instance(statistics: Statistics, container: ServiceContainer, brief: bool) -> dict[str, Any]:
    return {
        "service": container.service_name,
        "instance": container.instance_id,
        "running": container.pool.running(),
        "queued": container.queued,
        "longest": _longest(container),
        "max_workers": container.pool.size,
        "methods": [
            _method(worked, brief)
            for worked in statistics.all_worked()
            if worked.instance == container.instance_id and not (worked.kind == "event" and not worked.type)
        ],
    }


def _longest(container: ServiceContainer) -> list[dict[str, Any]]:
    """The calls that have run the longest, and are still running."""
    return [
        {
            "method": worker_ctx.entrypoint.method_name,
            "call_id": worker_ctx.call_id[:LONGEST_CALL_ID],
            "caller": str(worker_ctx.immediate_parent_call_id or "")[:LONGEST_CALL_ID],
            "seconds": seconds,
        }
        for worker_ctx, seconds in container.longest_running()[:MOST_LONGEST]
    ]


def _method(worked: Worked, brief: bool) -> dict[str, Any]:
    return {
        "method": worked.method,
        "kind": worked.kind,
        "event": f"{worked.source}:{worked.type}" if worked.type else "",
        "group": worked.group,
        **_outcomes(worked),
        "queued": worked.queued.to_dict(),
        "last_error": None if worked.last_error is None else _error(worked.last_error, brief),
    }


def _outcomes(outcomes: Outcomes) -> dict[str, Any]:
    durations = outcomes.good
    if outcomes.failed:
        durations = Histogram()
        for _, histogram in outcomes.all():
            durations.add(histogram)
    errors = {name: histogram.count for name, histogram in outcomes.failed.items()}
    return {**_counted(durations), "errors": errors}


def _counted(histogram: Histogram) -> dict[str, Any]:
    return {"count": histogram.count, "durations": histogram.to_dict()}


def _error(error: LastError, brief: bool) -> dict[str, Any]:
    return {**error._asdict(), **({"traceback": ""} if brief else {})}


def _groups(statistics: Statistics, measures: Iterable[Measure]) -> list[dict[str, Any]]:
    """One row for each group of each journal. One row stands for all groups beyond MOST_SERIES.

    Counts that are kept by source and group, and not by journal, are repeated in each row of the group.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for measure in measures:
        name = OF_GROUP.get(measure.name)
        if name is not None:
            source, group, journal = (measure.labels[label] for label in ("source", "group", "journal"))
            if (source, group, journal) not in rows and len(rows) >= MOST_SERIES:
                source = group = journal = OTHER
            row = rows.setdefault((source, group, journal), {"source": source, "group": group, "journal": journal})
            if name == "oldest_age":
                row[name] = max(row.get(name, 0.0), measure.value)
            else:
                row[name] = row.get(name, 0) + int(measure.value)
    for row in rows.values():
        key = (row["source"], row["group"])
        row["delivered"] = statistics.delivered.counts.get(key, 0)
        row["redelivered"] = statistics.redelivered.counts.get(key, 0)
        row["acked"] = statistics.acked.counts.get(key, 0)
        row["failed"] = statistics.failed.counts.get(key, 0)
        row["dead"] = statistics.dead.counts.get(key, 0)
        row["lost"] = statistics.lost.counts.get(key, 0)
    return [rows[key] for key in sorted(rows)]
