"""Real processes behind real relays: what the validation of the simulated gossip rests on."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from benchmarks import gossip_match
from benchmarks.delay_proxy import Lateness, Links, Ports, Stop
from benchmarks.gossip_live import Run, live, make_graph, process

PEERS = 6
SEED = 7
DELAY_NS = 40_000_000
PATIENCE_S = (1.0, 4.0, 16.0, 16.0)


def test_a_relay_holds_every_byte_for_its_time_and_keeps_their_order() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, process("benchmarks.delay_proxy") as relay:
        relay.tell(Links(((listener.getsockname()[1], DELAY_NS),)))
        with socket.create_connection(("127.0.0.1", relay.hear(Ports).ports[0]), timeout=60) as near:
            far, _ = listener.accept()
            with far:
                far.settimeout(60)
                echo = threading.Thread(target=_echo, args=(far,))
                echo.start()
                trips = []
                for number in range(20):
                    start = time.monotonic_ns()
                    near.sendall(bytes([number]))
                    assert near.recv(1) == bytes([number])
                    trips.append(time.monotonic_ns() - start)
                near.sendall(bytes(range(100)))
                assert b"".join(near.recv(1) for _ in range(100)) == bytes(range(100))
                near.shutdown(socket.SHUT_WR)
                assert near.recv(1) == b""
                echo.join()
        relay.tell(Stop())
        lateness = relay.hear(Lateness)
    assert min(trips) >= 2 * DELAY_NS
    assert min(trips) < 4 * DELAY_NS, "a busy machine is late, but not every time"
    assert lateness.connections == 1
    assert lateness.passages >= 42


def _echo(far: socket.socket) -> None:
    while data := far.recv(1024):
        far.sendall(data)


def measured() -> tuple[Run, gossip_match.Heard, gossip_match.Heard]:
    """A run, what was heard in it, and what the simulator says. One in which the machine was held up is taken again,
    with more time."""
    graph = make_graph(PEERS, 2, rate=6.0, seconds=2.0, seed=SEED, delays_ms=(60, 200))
    told = []
    for patience_s in PATIENCE_S:
        run = live(graph, SEED, settle_s=patience_s, linger_s=1.5 * patience_s)
        real, hops = gossip_match.heard(run)
        assert min(hops.forward) > 0
        model = gossip_match.simulate(run, hops, 0)
        off = gossip_match.rank(model.latencies, 0.5) / gossip_match.rank(real.latencies, 0.5) - 1
        if real.missed == 0 and abs(off) < 0.5:
            return run, real, model
        told.append((real.missed, off))
    raise AssertionError(f"missed, and off by, each time: {told}")


@pytest.mark.alone
def test_statements_reach_every_process_about_when_the_simulator_says() -> None:
    run, real, model = measured()
    assert run.direct == 0
    assert run.connections == len(run.graph.links) == run.lateness.connections
    assert len(real.latencies) == 12 * (PEERS - 1)
    assert real.latencies[0] >= min(delay for *_, delay in run.graph.links)
    assert model.missed == 0
