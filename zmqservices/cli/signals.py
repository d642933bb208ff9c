"""The signals that ask a process to stop gracefully."""

from __future__ import annotations

import signal


def stop_signals() -> list[int]:
    """SIGTERM, and SIGHUP (a terminal closes) unless the process ignores it, as under nohup."""
    signals = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return [int(number) for number in signals]
