"""What theory says about gossip, queues and repair: the figures against which the simulator is held.

These are formulas for tests and reports; the simulation itself never calls them.
"""

from __future__ import annotations

import math

from protocol.errors import Refused


def push_coverage(fanout: float) -> float:
    """Share of a large population that one push to `fanout` random peers each reaches, if it takes hold.

    The root of r = 1 - exp(-fanout * r): the giant component (Erdős and Rényi, 1960; Kermack and McKendrick, 1927).
    """
    _at_least_zero("fanout", fanout)
    reached = 1.0
    for _ in range(10_000):
        following = 1.0 - math.exp(-fanout * reached)
        if abs(following - reached) < 1e-14:
            break
        reached = following
    return reached if fanout > 1.0 else 0.0


def mesh_coverage(degree: int, forwards: float) -> float:
    """Share of a large random mesh of this degree that is reached when only a share of the peers passes things on.

    Site percolation on a random regular graph (Cohen et al., 2000): u = 1 - q + q * u ** (d - 1) is the chance that one
    neighbour brings nothing. The silent ones receive like everybody; the spread is taken to have got going.
    """
    _is_share("forwards", forwards)
    silent = 0.0
    for _ in range(100_000):
        following = 1.0 - forwards + forwards * silent ** (degree - 1)
        if abs(following - silent) < 1e-14:
            break
        silent = following
    return 1.0 - silent**degree


def duplicates(peers: int, degree: float) -> float:
    """Superfluous copies of one statement in a connected mesh whose links all have the same delay.

    Everybody sends `degree` copies but the one back to where it came from (peers - 1 of these); peers - 1 are useful.
    """
    return peers * degree - 2 * (peers - 1)


def mean_hops(peers: int, degree: int) -> float:
    """Mean distance in a random regular graph: about log n / log(d - 1), here with the tail of its distribution.

    A peer is farther than k with probability exp(-d ((d - 1)**k - 1) / ((d - 2) n)) (Nitzan et al., 2016).
    """
    if degree < 3 or peers < 2:
        raise Refused(
            f"distances need degree >= 3 and peers >= 2, not {degree} and {peers}",
            code="bad_graph",
            numbers={"degree": degree, "peers": peers},
        )
    total, ball = 0.0, 0.0
    while ball < 50.0 * peers:
        total += math.exp(-ball / peers)
        ball = ball * (degree - 1) + degree
    return total


def erlang_c(servers: int, load: float) -> float:
    """Chance that a job has to wait, with Poisson arrivals and exponential service. `load`: busy servers on average.

    Erlang's second formula (1917), by the recursion of his first, which does not overflow.
    """
    _at_least_zero("load", load)
    if servers < 1 or load >= servers:
        raise Refused(
            f"a queue with a load of {load} Erlang and {servers} servers grows without end",
            code="overload",
            fix="Have more servers than Erlangs of load.",
            numbers={"servers": servers},
        )
    blocked = 1.0
    for busy in range(1, servers + 1):
        blocked = load * blocked / (busy + load * blocked)
    return servers * blocked / (servers - load * (1.0 - blocked))


def waiting_time(servers: int, per_second: float, service: float) -> float:
    """Mean seconds that a job waits for a server: M/M/k. `service`: mean seconds of work."""
    load = per_second * service
    return erlang_c(servers, load) * service / (servers - load)


def repair_rate(pieces: float, session: float) -> float:
    """Repairs per second that keep `pieces` pieces alive whose holders leave for ever after a mean of `session` s."""
    if session <= 0:
        raise Refused("a session must last longer than 0 s", code="bad_session")
    return pieces / session


def repair_bandwidth(pieces: int, needed: int, size: int, session: float) -> float:
    """Bytes per second for the repair of one object of `size` bytes in `pieces` pieces of which `needed` restore it.

    A lost piece is rebuilt out of `needed` others, each size / needed: a repair moves the whole object.
    """
    return repair_rate(pieces, session) * (size / needed) * needed


def time_to_loss(pieces: int, needed: int, session: float, repair: float) -> float:
    """Mean seconds until fewer than `needed` of `pieces` pieces are left. Lost pieces are rebuilt in parallel.

    First passage of a birth-death chain with deaths i / session and births (pieces - i) / repair (Karlin and McGregor,
    1957): the mean times from i to i - 1 pieces follow from each other, from the top.
    """
    if not 1 <= needed <= pieces or session <= 0 or repair <= 0:
        raise Refused(
            f"{needed} of {pieces} pieces, sessions of {session} s and repairs of {repair} s make no object",
            code="bad_pieces",
            numbers={"needed": needed, "pieces": pieces},
        )
    down = session / pieces
    total = down
    for alive in range(pieces - 1, needed - 1, -1):
        births, deaths = (pieces - alive) / repair, alive / session
        down = (1.0 + births * down) / deaths
        total += down
    return total


def _at_least_zero(name: str, value: float) -> None:
    if not value >= 0:
        raise Refused(f"{name} must be at least 0, not {value}", code="bad_number", fix=f"Raise {name}.")


def _is_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise Refused(f"{name} must lie within 0 and 1, not {value}", code="bad_share", fix=f"Give {name} as a share.")
