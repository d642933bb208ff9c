"""NATS publish and subscribe with nats-py, without JetStream: lost events are not sent again."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from bench.eventing import PATIENCE, TYPE, Count, tell

#: Events between two flushes, so that the client's buffer does not grow without end.
FLUSH_EVERY = 500


def publish(job: dict[str, Any]) -> None:
    asyncio.run(_publish(job))


async def _publish(job: dict[str, Any]) -> None:
    import msgpack
    import nats

    connection = await nats.connect(f"nats://{job['broker']}")
    tell("here")
    await asyncio.to_thread(sys.stdin.readline)
    for number in range(job["events"]):
        await connection.publish(TYPE, msgpack.packb({"number": number}))
        if number % FLUSH_EVERY == 0:
            await connection.flush()
    await connection.flush()
    tell("done")
    await asyncio.sleep(PATIENCE)


def subscribe(job: dict[str, Any]) -> None:
    asyncio.run(_subscribe(job))


async def _subscribe(job: dict[str, Any]) -> None:
    import msgpack
    import nats

    count = Count()

    async def handle(message: Any) -> None:
        msgpack.unpackb(message.data)
        count.one()

    connection = await nats.connect(f"nats://{job['broker']}")
    await connection.subscribe(TYPE, cb=handle)
    await connection.flush()
    tell("here")
    while not count.is_over(job, may_lose=True):
        await asyncio.sleep(0.01)
    count.tell()
    await asyncio.sleep(PATIENCE)
