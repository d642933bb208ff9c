"""A cable on which each packet takes its time: `python -m tests.system.delayed_wire ONE OTHER SECONDS`.

It carries frames between two devices, where the kernel has no netem. Segments that were not cut and checksums that were not made
yet are carried as such: the kernel says so in a header before each frame, and hears it again.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque

#: Of linux/if_packet.h and linux/if_ether.h.
SOL_PACKET, PACKET_VNET_HDR, ETH_P_ALL = 263, 15, 3
#: A segment that is not cut has up to 64 KiB.
LONGEST = 70_000


def end_of(device: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
    end.bind((device, ETH_P_ALL))
    end.setblocking(False)
    return end


def carry(one: socket.socket, other: socket.socket, seconds: float) -> None:
    """Until the process is killed."""
    under_way: deque[tuple[float, socket.socket, bytes]] = deque()
    to = {one: other, other: one}
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready, _, _ = select.select([one, other], [], [], wait)
        for end in ready:
            for _ in range(64):
                try:
                    frame, (_, _, kind, *_) = end.recvfrom(LONGEST)
                except BlockingIOError:
                    break
                # What was sent here is seen as well.
                if kind != socket.PACKET_OUTGOING:
                    under_way.append((time.monotonic() + seconds, to[end], frame))
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, end, frame = under_way.popleft()
            try:
                end.send(frame)
            except (BlockingIOError, OSError):
                # No room or no receiver: lost, as on any cable.
                continue


if __name__ == "__main__":
    first, second = end_of(sys.argv[1]), end_of(sys.argv[2])
    print(f"carries between {sys.argv[1]} and {sys.argv[2]}", flush=True)
    carry(first, second, float(sys.argv[3]))
