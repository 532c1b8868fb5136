"""Which peers can run a job, at what price, and why the others cannot. Spec: specs/04-offers.md.

Every dimension that excludes says so with both figures: nobody has to guess why there is "no capacity".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, Literal

from protocol.gpu_models import canonical_name
from protocol.granting import EXPLORATION_PPM, chunk_price
from protocol.jobspec import JobSpec
from protocol.messages import Gpu, Offer
from protocol.overlay.place import NOWHERE, Coordinate, Place, estimate
from protocol.reputation import NOBODY, Rank, order
from protocol.units import MINUTE, SECOND, Credits, Micros, PeerId

TIERS: Final = ("docker", "runc", "bwrap", "child")
"""Executors of native code, the strongest isolation first."""

START_TIME: Final = Micros(2 * SECOND)
"""Microseconds from confirmation to the first line of a chunk on a free slot: notice, bid, lease, block, start."""

TEMPORARY: Final = frozenset({"slots_busy", "draining", "expired"})
"""Exclusions that end by themselves or by their owner's word."""

MILLISECOND: Final = Micros(1_000)

LOSS_CEILING: Final = Micros(5 * MINUTE)
"""Most work that a lost host may cost (features S1). One that may cost more is asked after all others."""

LOSS_GRAIN: Final = Micros(10 * SECOND)
"""What losses must differ by to count: the shortest interval between snapshots is as long."""

NO_COORDINATE: Final = Coordinate()
"""Of a steward that has measured nothing yet: every latency is unknown to it."""

Loss = Callable[[JobSpec, int], Micros]
"""Work that a host takes with it at worst when it dies, from its uplink in bytes per second; 0 = not measured."""

SizeClass = Literal["cpu", "light", "medium", "heavy", "parallel"]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why an offer does not fit: a stable code, a sentence, and the numbers that disagreed."""

    code: str
    detail: str
    numbers: dict[str, int | str] = field(default_factory=dict)

    @property
    def is_temporary(self) -> bool:
        """True when waiting may help."""
        return self.code in TEMPORARY


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that can run the job now."""

    peer: PeerId
    price_per_hour: Credits
    chunk_price: Credits
    executor: str
    slots: int
    slots_free: int
    reputation: int
    """Parts per million."""
    stake: Credits
    is_newcomer: bool
    latency: Micros | None = None
    """Estimated round trip from the steward; None: unknown, and so behind its equals."""
    region: str = ""
    """As its owner says; empty: the owner does not."""
    uplink: int = 0
    """Bytes per second; 0: not measured."""
    loss: Micros = Micros(0)
    """Work that is lost at worst if this host dies."""

    @property
    def is_exposed(self) -> bool:
        """Whether more may be lost there than should be anywhere."""
        return self.loss > LOSS_CEILING


@dataclass(frozen=True, slots=True)
class Excluded:
    """A peer that cannot."""

    peer: PeerId
    code: str
    detail: str
    numbers: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a renter sees before any money moves."""

    candidates: tuple[Candidate, ...]
    """In the order in which they would be asked."""
    excluded: tuple[Excluded, ...]
    price_min: Credits
    """All steps at the cheapest candidate's chunk price; 0 without candidates."""
    price_max: Credits
    """All steps at the dearest candidate's chunk price."""
    worst_case_loss: Micros
    """Work that the loss of one candidate can cost, at the worst of them."""
    start_estimate: Micros | None
    """From confirmation to the first chunk at work; None when nobody could ever run it."""
    size: SizeClass


def size_class(spec: JobSpec) -> SizeClass:
    """Light 1 GPU, medium 2–4, heavy up to 16, parallel beyond (features J2); `cpu` without any.

    A single step's cards count: chunks are independent and need no common host."""
    count = spec.resources.gpu.count
    if count == 0:
        return "cpu"
    return "light" if count == 1 else "medium" if count <= 4 else "heavy" if count <= 16 else "parallel"


def executor(offer: Offer, spec: JobSpec, renter: PeerId) -> str | None:
    """The tier on which this host would run the job, None when it has none for it."""
    if spec.runtime == "wasm":
        return "wasm" if "wasm" in offer.executors else None
    if spec.runtime.startswith("image:"):
        return "docker" if "docker" in offer.executors else None
    for tier in TIERS:
        if tier in offer.executors and (tier != "child" or renter in offer.serves):
            return tier
    return None


def exclusion(
    offer: Offer, spec: JobSpec, renter: PeerId, now: Micros, here: Coordinate | None = None
) -> Exclusion | None:
    """The first dimension in which an offer does not fit, or None."""
    return next(exclusions(offer, spec, renter, now, here), None)


def exclusions(
    offer: Offer, spec: JobSpec, renter: PeerId, now: Micros, here: Coordinate | None = None
) -> Iterator[Exclusion]:
    """Every dimension in which an offer does not fit: what cannot change first, what may change soon last.

    `here` is the steward's coordinate; None (whoever is no steward) judges everything but latency."""
    yield from _runtime(offer, spec, renter)
    yield from _capacity(offer, spec)
    yield from gpu_exclusions(offer, spec)
    yield from placement_exclusions(offer, spec, here)
    yield from _price(offer, spec)
    yield from _slots(offer, now)


def _runtime(offer: Offer, spec: JobSpec, renter: PeerId) -> Iterator[Exclusion]:
    names = {runtime.name for runtime in offer.runtimes}
    if not spec.runtime.startswith("image:") and spec.runtime not in names:
        has = ", ".join(sorted(names)) or "none"
        yield Exclusion("runtime", f"has no runtime {spec.runtime}, only {has}", {"wanted": spec.runtime, "has": has})
    if executor(offer, spec, renter) is not None:
        return
    has = ", ".join(offer.executors) or "none"
    if spec.runtime == "wasm":
        detail = f"has no WASM executor, only {has}"
    elif spec.runtime.startswith("image:"):
        detail = f"an image needs Docker, it has {has}"
    elif "child" in offer.executors:
        detail = "runs native code without isolation, and only for renters on its owner's list"
    else:
        detail = f"has no sandbox for native code, only {has}"
    yield Exclusion("executor", detail, {"has": has})


def _capacity(offer: Offer, spec: JobSpec) -> Iterator[Exclusion]:
    need, has = spec.resources, offer.capability
    rows = (
        ("cpus", need.cpus_milli, has.cpus_milli, "thousandths of a CPU"),
        ("memory", need.memory_bytes, has.memory_bytes, "bytes of memory"),
        ("disk", need.disk_bytes, has.disk_bytes, "bytes of disk"),
    )
    for code, wanted, offered, unit in rows:
        if wanted > offered:
            yield Exclusion(code, f"{wanted} {unit} wanted, {offered} offered", {"wanted": wanted, "offered": offered})


def gpu_exclusions(offer: Offer, spec: JobSpec) -> Iterator[Exclusion]:
    """Cards must pass vendor, name and memory all at once; the first filter that leaves too few is the reason."""
    need = spec.resources.gpu
    if need.count == 0:
        return
    cards: list[Gpu] = list(offer.capability.gpus)
    numbers: dict[str, int | str] = {"wanted": need.count, "cards": len(cards)}
    if not cards:
        yield Exclusion("gpu_count", f"{need.count} GPU wanted, it has none", numbers)
        return
    if need.vendor:
        cards = [card for card in cards if card.vendor.lower() == need.vendor.lower()]
        if len(cards) < need.count:
            yield Exclusion(
                "gpu_vendor",
                f"{need.count} GPU by {need.vendor} wanted, it has {len(cards)}",
                numbers | {"fit": len(cards)},
            )
            return
    if need.names:
        wanted = {canonical_name(name) for name in need.names}
        names = ", ".join(sorted({canonical_name(card.name) for card in cards}))
        cards = [card for card in cards if canonical_name(card.name) in wanted]
        if len(cards) < need.count:
            detail = f"{need.count} of {', '.join(sorted(wanted))} wanted, it has {len(cards)} among {names}"
            yield Exclusion("gpu_name", detail, numbers | {"fit": len(cards), "has": names})
            return
    top = need.memory_bytes_max or max(card.memory_bytes for card in cards)
    largest = max(card.memory_bytes for card in cards)
    fitting = [card for card in cards if need.memory_bytes_min <= card.memory_bytes <= top]
    if len(fitting) < len(cards) and len(fitting) < need.count:
        span = f"{need.memory_bytes_min} to {need.memory_bytes_max or 'any number of'} bytes"
        detail = f"{need.count} GPU with {span} wanted, {len(fitting)} fit, the largest has {largest}"
        yield Exclusion("gpu_memory", detail, numbers | {"fit": len(fitting), "largest": largest})
    elif len(fitting) < need.count:
        yield Exclusion("gpu_count", f"{need.count} GPU wanted, {len(fitting)} fit", numbers | {"fit": len(fitting)})


def place_of(offer: Offer) -> Place:
    """Where an offer says its peer is; the place that says nothing when it does not."""
    return offer.place if isinstance(offer.place, Place) else NOWHERE


def placement_exclusions(offer: Offer, spec: JobSpec, here: Coordinate | None) -> Iterator[Exclusion]:
    """Why a provider is in the wrong place, seen from a steward at `here`. A region that nobody said is none."""
    where, place = spec.where, place_of(offer)
    if where.regions and place.region not in where.regions:
        has, wanted = place.region or "no region", ", ".join(where.regions)
        yield Exclusion("region", f"{has} said, {wanted} allowed", {"wanted": wanted, "has": place.region})
    if not where.latency_ms_max or here is None:
        return
    latency = estimate(here, place.coordinate)
    allowed = where.latency_ms_max
    if latency is None:
        if where.is_strict:
            yield Exclusion("latency_unknown", f"its latency is unknown, {allowed} ms allowed", {"allowed_ms": allowed})
    elif latency > allowed * MILLISECOND:
        numbers: dict[str, int | str] = {"estimated_ms": -(-latency // MILLISECOND), "allowed_ms": allowed}
        yield Exclusion("too_far", f"{numbers['estimated_ms']} ms estimated, {allowed} allowed", numbers)


def _price(offer: Offer, spec: JobSpec) -> Iterator[Exclusion]:
    if offer.price_per_hour > spec.price_per_hour_max:
        yield Exclusion(
            "price",
            f"asks {offer.price_per_hour} per hour, at most {spec.price_per_hour_max} are paid",
            {"asked": offer.price_per_hour, "price_per_hour_max": spec.price_per_hour_max},
        )
    price = chunk_price(offer.price_per_hour, spec.estimate)
    if price > spec.spend_cap:
        yield Exclusion(
            "budget",
            f"one chunk costs {price}, the job may spend {spec.spend_cap}",
            {"chunk_price": price, "spend_cap": spec.spend_cap},
        )


def _slots(offer: Offer, now: Micros) -> Iterator[Exclusion]:
    if offer.slots == 0:
        yield Exclusion("no_slots", "is no provider: it offers no slots", {"slots": 0})
    if offer.expires <= now:
        late = now - offer.expires
        yield Exclusion("expired", f"its offer expired {late // SECOND} s ago", {"expires": offer.expires, "now": now})
    if offer.is_draining:
        yield Exclusion("draining", "its owner is taking it off the network")
    if offer.slots and offer.slots_free == 0:
        yield Exclusion("slots_busy", f"all {offer.slots} slots are at work", {"slots": offer.slots, "slots_free": 0})


def plan(
    offers: Mapping[PeerId, Offer],
    spec: JobSpec,
    renter: PeerId,
    ranks: Mapping[PeerId, Rank],
    now: Micros,
    dice: Random,
    here: Coordinate = NO_COORDINATE,
    loss: Loss = lambda spec, uplink: spec.timeout,
) -> Plan:
    """Candidates in the order of assignment, and a reason for everybody else. `here`: the steward's coordinate.

    `loss`: what a host's death costs; unless said, all that a chunk may take."""
    fitting: dict[PeerId, Candidate] = {}
    excluded: list[Excluded] = []
    is_busy = False
    for peer, offer in sorted(offers.items()):
        reason = exclusion(offer, spec, renter, now, here)
        if reason is None:
            one = _candidate(peer, offer, spec, renter, ranks.get(peer, NOBODY), here)
            fitting[peer] = replace(one, loss=loss(spec, one.uplink))
        else:
            is_busy = is_busy or reason.code == "slots_busy"
            excluded.append(Excluded(peer, reason.code, reason.detail, reason.numbers))
    prices = [candidate.chunk_price for candidate in fitting.values()]
    asked = [fitting[peer] for peer in order(fitting, ranks, EXPLORATION_PPM, dice)]
    start = START_TIME if fitting else Micros(START_TIME + spec.estimate) if is_busy else None
    return Plan(
        candidates=safest_first(nearest_first(asked, spec.protection.profile == "min-loss")),
        excluded=tuple(excluded),
        price_min=Credits(min(prices, default=0) * spec.steps),
        price_max=Credits(max(prices, default=0) * spec.steps),
        worst_case_loss=max((one.loss for one in asked), default=spec.timeout),
        start_estimate=start,
        size=size_class(spec),
    )


def uplink_of(offer: Offer) -> int:
    """Bytes per second that an offer says its peer sends; 0: not measured."""
    return uplink if isinstance(uplink := offer.capability.uplink, int) else 0


def safety(spec: JobSpec, loss: Micros) -> tuple[int, int]:
    """How safe a chunk is where a death costs so much: the larger, the better. First whether it stays below the
    ceiling, which counts before reputation; then, where the renter wants little lost, how little that is."""
    return int(loss <= LOSS_CEILING), -(loss // LOSS_GRAIN) if spec.protection.profile == "min-loss" else 0


def safest_first(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Who may cost more than the ceiling comes last; else nothing changes."""
    return tuple(sorted(candidates, key=lambda one: one.is_exposed))


def nearest_first(candidates: list[Candidate], is_loss_minded: bool = False) -> tuple[Candidate, ...]:
    """The places that equals have in this order go to the nearest of them first, and to the unknown last.

    `is_loss_minded`: to those whose death costs least, before the nearest."""
    classes: dict[tuple[int, int, bool], list[Candidate]] = {}
    for one in candidates:
        classes.setdefault((one.reputation, one.stake, one.is_newcomer), []).append(one)

    def place(one: Candidate) -> tuple[int, bool, int]:
        return one.loss // LOSS_GRAIN if is_loss_minded else 0, one.latency is None, one.latency or 0

    for equals in classes.values():
        equals.sort(key=place, reverse=True)
    return tuple(classes[one.reputation, one.stake, one.is_newcomer].pop() for one in candidates)


def _candidate(peer: PeerId, offer: Offer, spec: JobSpec, renter: PeerId, known: Rank, here: Coordinate) -> Candidate:
    return Candidate(
        peer=peer,
        price_per_hour=Credits(offer.price_per_hour),
        chunk_price=chunk_price(offer.price_per_hour, spec.estimate),
        executor=executor(offer, spec, renter) or "",
        slots=offer.slots,
        slots_free=offer.slots_free,
        reputation=known.reputation,
        stake=known.stake,
        is_newcomer=known.is_newcomer,
        latency=estimate(here, place_of(offer).coordinate),
        region=place_of(offer).region,
        uplink=uplink_of(offer),
    )
