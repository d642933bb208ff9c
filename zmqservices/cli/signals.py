"""Which signals ask a process to stop in good order."""

from __future__ import annotations

import signal


def stop_signals() -> list[int]:
    """SIGTERM, and SIGHUP, which a terminal sends that is closed; not where it is ignored, as under nohup."""
    signals = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return [int(number) for number in signals]
