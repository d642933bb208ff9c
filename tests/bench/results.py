"""Lines of results as a run would write them, for tests that read some."""

from __future__ import annotations

from typing import Any

MACHINE = {"cores": 2, "processor": "one that counts", "system": "Linux 6"}


def facts() -> dict[str, Any]:
    return {"machine": MACHINE, "python": "3.11.7", "libraries": {"pyzmq": "27.3.0"}, "commit": "abc1234"}


def line(subject: str, round: int, rate: float, case: str = "64", **more: Any) -> dict[str, Any]:
    """A measurement whose other figures follow from its rate."""
    made = {
        "kind": "rpc", "subject": subject, "case": case, "round": round, "rate": rate, "cpu_us": 1e6 / rate,
        "server_cpu_us": 6e5 / rate, "client_cpu_us": 4e5 / rate, "p50_us": 5e5 / rate, "p99_us": 1e6 / rate,
        "p999_us": 2e6 / rate, "server_rss_mb": 30.0, "idle_rss_mb": 28.0, "first_answer_s": 0.3, "broker_rss_mb": 0.0,
        "others_cores": 0.0, "stolen_cores": 0.0, "versions": {"pyzmq": "27.3.0"}, **facts(),
    }  # fmt: skip
    return {**made, **more}


def rounds(subject: str, rates: list[float], **more: Any) -> list[dict[str, Any]]:
    return [line(subject, number, rate, **more) for number, rate in enumerate(rates)]
