"""Faults while a job runs: a village of providers behind shaped links, struck one fault after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from benchmarks.netlab import faults
from benchmarks.netlab.laboratory import Laboratory
from benchmarks.netlab.routers import Kind
from benchmarks.netlab.shaper import Flow, Link, both
from benchmarks.netlab.village import Village
from node.clock import Clock
from protocol.errors import Refused, Unavailable
from protocol.units import SECOND
from shoal.processes import until

HOUSES: Final[dict[str, Kind]] = {
    "relay": "public",
    "cone": "port-restricted",
    "remapped": "remapping",
    "random": "symmetric",
    "carried": "cgnat",
}
"""Providers: one public peer that others may relay through, four homes."""

WAN: Final = both(Flow(delay_ms=10, jitter_ms=2))
"""Every line when nothing is wrong: a round trip of 40 ms between two houses."""

SKEW_S: Final = 300.0
"""A home computer that never set its clock."""

JOB_S: Final = 240.0
"""Patience with one job."""

HEAL_S: Final = 90.0
"""Until a village is whole again after a fault."""

JOB: Final = Path(__file__).parents[2] / "examples" / "render" / "job.yml"


class Fault(Struct, frozen=True):
    """Whom it strikes, when, and how; the context's end mends it."""

    target: str
    when: Literal["before", "running"]
    """Before the job is submitted, or once the target computes a chunk of it."""
    strike: Callable[[Village], AbstractContextManager[None]]


class Trial(Struct, frozen=True):
    """A job under a fault."""

    fault: str
    seconds: float
    """From submission to settlement."""
    delivered: int
    """Chunks that the struck provider delivered all the same."""
    repeated: int
    """Attempts that were lost and made again."""
    healed_s: float
    """Until all was connected and free again after the end of the fault."""


@contextmanager
def nothing(village: Village) -> Iterator[None]:
    """No fault: what the others are compared with."""
    yield


@contextmanager
def relay_killed(village: Village) -> Iterator[None]:
    """SIGKILL to the public peer."""
    village.kill("relay")
    try:
        yield
    finally:
        village.restart("relay")


@contextmanager
def rebooted(village: Village) -> Iterator[None]:
    """The remapping router restarts: mappings gone, other outside ports."""
    faults.reboot(village.host("remapped").house)
    yield


@contextmanager
def moved(village: Village) -> Iterator[None]:
    """Another public address for the cone."""
    faults.move(village.host("cone").house)
    yield


@contextmanager
def powerless(village: Village) -> Iterator[None]:
    """A host loses power while it computes: every connection with it stays half open."""
    host = village.host("cone")
    host.plug(False)
    village.kill("cone")
    try:
        yield
    finally:
        host.plug(True)
        village.restart("cone")


@contextmanager
def slept(village: Village) -> Iterator[None]:
    """A host is off the net until the job is over, and comes back with all its connections stale."""
    with faults.unplugged(village.host("random")):
        yield


@contextmanager
def _shaped(village: Village, name: str, link: Link) -> Iterator[None]:
    house = village.host(name).house
    faults.shape(house, link)
    try:
        yield
    finally:
        faults.shape(house, WAN)


def lossy(village: Village) -> AbstractContextManager[None]:
    """30 % of the packets vanish, both ways."""
    return _shaped(village, "random", both(Flow(delay_ms=10, jitter_ms=2, loss=0.3), seed=30))


def slow(village: Village) -> AbstractContextManager[None]:
    """An uplink of 1 Mbit/s."""
    return _shaped(village, "carried", Link(Flow(delay_ms=10, rate_kbit=1_000), Flow(delay_ms=10)))


@contextmanager
def deaf(village: Village) -> Iterator[None]:
    """A one-way partition: what the house sends arrives, nothing comes in."""
    with faults.outage(village.host("remapped").house, outbound=False):
        yield


@contextmanager
def narrow(village: Village) -> Iterator[None]:
    """A line that takes 576 bytes."""
    house = village.host("carried").house
    faults.narrow(house, 576)
    try:
        yield
    finally:
        faults.narrow(house, 1_500)


@contextmanager
def _skewed(village: Village, seconds: float) -> Iterator[None]:
    village.reclock("cone", seconds)
    try:
        yield
    finally:
        village.reclock("cone", 0.0)


def ahead(village: Village) -> AbstractContextManager[None]:
    """A clock that is five minutes ahead."""
    return _skewed(village, SKEW_S)


def behind(village: Village) -> AbstractContextManager[None]:
    """A clock that is five minutes behind."""
    return _skewed(village, -SKEW_S)


FAULTS: Final[dict[str, Fault]] = {
    "none": Fault("cone", "before", nothing),
    "relay killed": Fault("relay", "running", relay_killed),
    "router rebooted": Fault("remapped", "running", rebooted),
    "address changed": Fault("cone", "running", moved),
    "half-open": Fault("cone", "running", powerless),
    "asleep": Fault("random", "running", slept),
    "30 % loss": Fault("random", "before", lossy),
    "one-way partition": Fault("remapped", "running", deaf),
    "1 Mbit/s uplink": Fault("carried", "before", slow),
    "MTU 576": Fault("carried", "before", narrow),
    "clock 5 min ahead": Fault("cone", "before", ahead),
    "clock 5 min behind": Fault("cone", "before", behind),
}


def settle(lab: Laboratory, folder: Path, say: Callable[[str], None]) -> Village:
    """The village of the trials, up."""
    village = Village(lab, folder, say)
    for name, kind in HOUSES.items():
        village.settle(lab.house(name, kind, link=WAN).host)
    village.up()
    return village


def attempt(village: Village, name: str) -> Trial:
    """One job under one fault; Unavailable when it does not settle in `JOB_S`."""
    fault = FAULTS.get(name)
    if fault is None:
        raise Refused(f"no fault {name!r}; there are {', '.join(FAULTS)}", code="laboratory")
    clock = Clock()
    if fault.when == "before":
        with fault.strike(village):
            began = clock.now()
            status = village.settled(village.submit(JOB), JOB_S)
            ended = clock.now()
    else:
        began = clock.now()
        job = village.submit(JOB)
        if village.running(job, fault.target, JOB_S) is None:
            raise Unavailable(f"{fault.target} got no chunk of the job", code="laboratory")
        with fault.strike(village):
            status = village.settled(job, JOB_S)
            ended = clock.now()
    mended = clock.now()
    until("the village is whole again", lambda: village.is_whole() or None, [], HEAL_S)
    delivered = sum(village.peer_names.get(chunk.provider or "") == fault.target for chunk in status.chunks)
    repeated = sum(attempt.end != "accepted" for chunk in status.chunks for attempt in chunk.attempts)
    healed = (clock.now() - mended) / SECOND
    return Trial(name, (ended - began) / SECOND, delivered, repeated, healed)
