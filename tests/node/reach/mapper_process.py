"""A port mapper of its own, for a network namespace: listens on its ports, tells what happens as JSON lines.

Ends cleanly when its standard input ends, and with an error when nothing ends it for four minutes.
"""

from __future__ import annotations

import json
import sys

import trio

from node.clock import Clock
from node.reach.port_mapper import PortMapper
from protocol.overlay.lease import Gained, Lost

LIMIT_S = 240.0


def say(event: Gained | Lost) -> None:
    lease = event.lease
    print(
        json.dumps(
            {
                "event": type(event).__name__.lower(),
                "method": lease.method,
                "port": lease.internal_port,
                "external": f"{lease.external_ip}:{lease.external_port}",
                "why": event.why if isinstance(event, Lost) else "",
            }
        ),
        flush=True,
    )


async def tell_failures(mapper: PortMapper) -> None:
    told: dict[str, str] = {}
    while True:
        for method, why in mapper.status.failures:
            if told.get(method) != why:
                told[method] = why
                print(json.dumps({"event": "failed", "method": method, "why": why}), flush=True)
        await trio.sleep(0.1)


async def greet(stream: trio.SocketStream) -> None:
    await stream.send_all(b"hello")


async def main(ports: list[int]) -> None:
    mapper = PortMapper(ports, Clock(), say)
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            for port in ports:
                await nursery.start(trio.serve_tcp, greet, port)
            nursery.start_soon(mapper.run)
            nursery.start_soon(tell_failures, mapper)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


trio.run(main, [int(word) for word in sys.argv[1:]])
