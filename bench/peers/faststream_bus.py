"""faststream on the queue of `./dev bench bus`: for each line "publish" or "consume" on stdin it does that with all messages,
and answers with the seconds it took, connection and all. bench/src/bus/peer.rs runs it.

usage: faststream_bus.py AMQP_URL QUEUE MESSAGES WINDOW PREFETCH
"""

import asyncio
import json
import logging
import sys
import time
import uuid

from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

URL, NAME = sys.argv[1:3]
MESSAGES, WINDOW, PREFETCH = map(int, sys.argv[3:6])
QUEUE = RabbitQueue(NAME, declare=False)
BODY = json.dumps({"text": "x" * (1024 - 11)}, separators=(",", ":")).encode()
assert len(BODY) == 1024


def headers() -> dict:
    """What the relay writes."""
    ident = str(uuid.uuid4())
    return {
        "cloudEvents_specversion": "1.0",
        "cloudEvents_id": ident,
        "cloudEvents_source": "com.gravitalia.autha",
        "cloudEvents_type": "com.gravitalia.bench.v1",
        "cloudEvents_time": "2026-11-21T12:00:00.123456Z",
        "cloudEvents_subject": ident,
        "cloudEvents_expirytime": "2099-12-31T23:59:59+00:00",
        "cloudEvents_version": "1",
        "cloudEvents_traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }


def broker() -> RabbitBroker:
    return RabbitBroker(URL, logger=None, default_channel=Channel(prefetch_count=PREFETCH))


async def publish() -> float:
    prepared = [headers() for _ in range(MESSAGES)]
    start = time.perf_counter()
    async with broker() as peer:
        left = iter(prepared)

        async def publisher() -> None:
            for each in left:
                await peer.publish(BODY, QUEUE, headers=each, content_type="application/json", persist=True)

        await asyncio.gather(*(publisher() for _ in range(WINDOW)))
    return time.perf_counter() - start


async def consume() -> float:
    start = time.perf_counter()
    peer, done, left = broker(), asyncio.Event(), MESSAGES

    @peer.subscriber(QUEUE, no_reply=True)
    async def handle(data: dict) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    async with peer:
        await peer.start()
        await done.wait()
    return time.perf_counter() - start


async def main() -> None:
    loop = asyncio.get_running_loop()
    steps = {"publish": publish, "consume": consume}
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"seconds": await steps[line.strip()]()}), flush=True)


logging.disable(logging.CRITICAL)
asyncio.run(main())
