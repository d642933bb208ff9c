"""Measures subjects and cases, round after round, with a line of results for each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from bench import machine, measure
from bench.cases import Case
from bench.processes import ChildFailed
from bench.schedule import interleaved
from bench.stage import Stage
from bench.venvs import Unavailable


def run(stage: Stage, names: Sequence[str], cases: Sequence[Case], rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Measure everything. A subject that cannot be measured gives a line with the reason ("failed"), in every round."""
    given_up: dict[str, str] = {}
    for number, case, name in interleaved(rounds, cases, names):
        line: dict[str, Any] = {
            "kind": "rpc", "subject": name, "case": case.name, "round": number, "at": round(time.time(), 1),
            "in_flight": case.in_flight, "clients": case.clients, "processes": case.processes, "payload": case.payload,
        }  # fmt: skip
        if name in given_up:
            yield {**line, "failed": given_up[name], **machine.facts()}
            continue
        try:
            if case.is_start:
                line.update(measure.start(stage, name, case, seconds, stage.folder / name))
            else:
                line.update(measure.load(stage.standing(name, case.processes), case, seconds, stage.folder / name))
        except Unavailable as exc:
            line["failed"] = str(exc)
            if case.processes == 1:
                given_up[name] = str(exc)
        except (ChildFailed, OSError) as exc:
            line["failed"] = str(exc)
        yield {**line, **machine.facts()}
