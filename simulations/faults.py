"""From the fault list of a scenario to what will happen: every line unrolled, everybody who is hit drawn.

A pure function of its arguments. Each line draws from a generator of its own, so that changing one line, or the number
of its repetitions, leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from protocol.errors import Refused
from simulations.addresses import area_of
from simulations.scenario import Fault, Injection, Role

INJECTIONS_MAX: Final = 100_000
"""Faults of one line: more are no experiment but a typing error in `every`."""

ROLES: Final[tuple[Role, ...]] = ("validator", "steward", "provider")

REST: Final = "rest"
"""May stand among a partition's groups for whoever is in none of the others; it changes nothing."""

AMOUNT_MAX: Final = {
    "loss": 1.0, "corrupt": 1.0, "clog": 86_400.0, "clock": 1e9, "kill": 1.0, "reclaim": 86_400.0,
    "ambush": 3_600.0,
}  # fmt: skip
"""Largest `amount` by kind: shares, seconds of delay, seconds of a jump (30 years), of notice, of waiting."""

NOBODY: Final = ("loss", "ambush")
"""Kinds that name nobody: the network is worse for all, and who restores is not known before."""


def plan(
    faults: Sequence[Fault], roles: Sequence[Role], regions: Sequence[str], duration: int, random: Random
) -> list[Injection]:
    """Every fault of the run in order of time, numbered from 0.

    `roles` and `regions` say for each peer what it is and where; `duration` is the safety phase, ns: no fault begins at
    or lasts beyond its end. Raises `Refused`, naming the line of the list (from 1), its kind and the key.
    """
    if len(roles) != len(regions):
        raise Refused(f"{len(roles)} peers have a role, {len(regions)} a region", code="bad_faults")
    found: list[tuple[int, int, Injection]] = []
    for place, fault in enumerate(faults):
        own = Random(random.getrandbits(64))
        line = f"faults, line {place + 1} ({fault.kind})"
        _check(fault, line, duration)
        chosen = _Chosen(fault, line, roles, regions)
        for at in _times(fault, line, duration):
            injection = Injection(
                number=0,
                at=at,
                until=min(at + fault.last, duration),
                kind=fault.kind,
                peers=chosen.draw(own),
                one_way=fault.one_way,
                amount=fault.amount,
                drift_ppm=fault.drift_ppm,
                disk=fault.disk,
            )
            found.append((at, place, injection))
    found.sort(key=lambda item: item[:2])
    return [
        Injection(
            number=number,
            at=one.at,
            until=one.until,
            kind=one.kind,
            peers=one.peers,
            one_way=one.one_way,
            amount=one.amount,
            drift_ppm=one.drift_ppm,
            disk=one.disk,
        )
        for number, (_, _, one) in enumerate(found)
    ]


class _Chosen:
    """Who a line can hit, and how many of them each time."""

    __slots__ = ("_all", "_count", "_most", "_pool", "_together")

    def __init__(self, fault: Fault, line: str, roles: Sequence[Role], regions: Sequence[str]) -> None:
        self._all, self._together = False, fault.together
        self._count = self._most = 0
        self._pool: list[int] = []
        if fault.kind in NOBODY:
            return
        if fault.groups:
            self._pool = _group(fault, line, roles, regions)
            self._all = True
            return
        self._pool = [
            peer for peer, role in enumerate(roles) if (role == fault.role if fault.role else role != "validator")
        ]
        who = fault.role or "peer that is no validator"
        if not self._pool:
            raise Refused(
                f"{line}: there is no {who}", code="no_such_role", fix="Name a role of the population, or add peers."
            )
        self._count = fault.n or round(fault.share * len(self._pool))
        if fault.share:
            self._count = max(1, self._count)
        if self._count > len(self._pool):
            raise Refused(
                f"{line}: n is {fault.n}, but there are {len(self._pool)} of {who}",
                code="too_few_peers",
                fix=f"Set n to {len(self._pool)} or less, or use share.",
                numbers={"n": fault.n, "peers": len(self._pool)},
            )
        if fault.kind == "partition":
            self._limit(fault, line, len(roles))

    def _limit(self, fault: Fault, line: str, peers: int) -> None:
        """A drawn side is the smaller one."""
        self._most = min(len(self._pool), peers // 2)
        if self._count > self._most or not self._most:
            raise Refused(
                f"{line}: {self._count or 'some'} of {peers} peers are no smaller side",
                code="no_minority",
                fix="Set n or share to at most half of all peers, or name the groups of one side.",
                numbers={"n": self._count, "peers": peers},
            )

    def draw(self, random: Random) -> tuple[int, ...]:
        """The peers of one occurrence, in order of index."""
        if self._all:
            return tuple(self._pool)
        count = self._count or (random.randrange(self._most) + 1 if self._most else 0)
        left = list(self._pool)
        for place in range(count):
            other = place + random.randrange(len(left) - place)
            left[place], left[other] = left[other], left[place]
        hit = left[:count]
        if self._together:
            areas = {area_of(peer) for peer in hit}
            hit = [peer for peer in self._pool if area_of(peer) in areas]
        return tuple(sorted(hit))


def _group(fault: Fault, line: str, roles: Sequence[Role], regions: Sequence[str]) -> list[int]:
    """The peers of the regions and roles named, which must not be all of them. Roles may stand in the plural."""
    names: dict[str, str] = {role: role for role in ROLES} | {f"{role}s": role for role in ROLES}
    groups = [name for name in fault.groups if name != REST]
    for name in groups:
        if name not in names and name not in regions:
            known = [*sorted(set(regions)), *ROLES]
            raise Refused(
                f"{line}: no region or role is named {name!r}",
                code="no_such_group",
                fix=f"Known here: {', '.join(known)}.",
            )
    wanted = {names.get(name, name) for name in groups} | set(groups)
    pool = [peer for peer, role in enumerate(roles) if role in wanted or regions[peer] in wanted]
    if not pool:
        raise Refused(
            f"{line}: nobody is in {', '.join(fault.groups)}", code="no_such_role", fix="Name a group that has peers."
        )
    if len(pool) == len(roles):
        raise Refused(
            f"{line}: {', '.join(fault.groups)} is everybody, and nobody is left for the other side",
            code="no_other_side",
            fix="Name the groups of one side only.",
        )
    return pool


def _times(fault: Fault, line: str, duration: int) -> range:
    if not fault.every:
        return range(fault.at, fault.at + 1)
    times = range(fault.at, min((fault.until or duration) + 1, duration), fault.every)
    if len(times) > INJECTIONS_MAX:
        raise Refused(
            f"{line}: every {fault.every} ns is {len(times)} times in this run",
            code="too_many_faults",
            fix="Set every to a longer time.",
            numbers={"times": len(times), "most": INJECTIONS_MAX},
        )
    return times


def _check(fault: Fault, line: str, duration: int) -> None:
    """What can be said of a line by itself."""
    _check_times(fault, line, duration)
    _check_amount(fault, line)
    if not 0.0 <= fault.share <= 1.0 or fault.n < 0:
        key, value = ("n", fault.n) if fault.n < 0 else ("share", fault.share)
        raise Refused(f"{line}: {key} is {value}", code="bad_fault", fix="n is 0 or more, share is between 0 and 1.")
    said = [key for key, value in (("n", fault.n), ("share", fault.share), ("groups", fault.groups)) if value]
    if len(said) > 1:
        raise Refused(f"{line}: {' and '.join(said)} cannot both be set", code="bad_fault", fix="Set one of them.")
    if fault.kind in NOBODY and (said or fault.role):
        raise Refused(
            f"{line}: {fault.kind} names nobody, so not {said[0] if said else fault.role}",
            code="bad_fault",
            fix="Leave role, n, share and groups out.",
        )
    if not said and fault.kind not in (*NOBODY, "partition"):
        raise Refused(f"{line}: nobody is hit", code="bad_fault", fix="Set n or share.")
    if fault.kind != "partition" and (fault.groups or fault.one_way):
        key = "groups" if fault.groups else "one_way"
        raise Refused(f"{line}: {key} is for partitions only", code="bad_fault", fix=f"Leave {key} out.")
    if fault.role and fault.groups:
        raise Refused(f"{line}: role and groups cannot both be set", code="bad_fault", fix="Name the role as a group.")


def _check_times(fault: Fault, line: str, duration: int) -> None:
    for key, value in (("at", fault.at), ("every", fault.every), ("until", fault.until), ("last", fault.last)):
        if value < 0:
            raise Refused(f"{line}: {key} is {value} ns", code="bad_fault", fix=f"Set {key} to 0 or more.")
    if fault.at >= duration:
        raise Refused(
            f"{line}: at is {fault.at} ns, but faults end with the safety phase at {duration} ns",
            code="late_fault",
            fix="Set at to an earlier time, or duration to a longer one.",
            numbers={"at": fault.at, "duration": duration},
        )
    if fault.until and not fault.at <= fault.until <= duration:
        raise Refused(
            f"{line}: until is {fault.until} ns, not between at ({fault.at}) and the safety phase's end ({duration})",
            code="late_fault",
            fix="Leave until out for faults until the end of the safety phase.",
            numbers={"until": fault.until, "at": fault.at, "duration": duration},
        )


def _check_amount(fault: Fault, line: str) -> None:
    most = AMOUNT_MAX.get(fault.kind)
    if most is None:
        if fault.amount:
            raise Refused(f"{line}: amount has no meaning here", code="bad_fault", fix="Leave amount out.")
    elif not abs(fault.amount) <= most or (fault.amount < 0 and fault.kind != "clock"):
        raise Refused(
            f"{line}: amount is {fault.amount}",
            code="bad_fault",
            fix=f"The largest amount of a {fault.kind} is {most:g}.",
        )
    elif not fault.amount and fault.kind not in ("kill", "ambush") and not (fault.kind == "clock" and fault.drift_ppm):
        key = "amount or drift_ppm" if fault.kind == "clock" else "amount"
        raise Refused(f"{line}: it changes nothing", code="bad_fault", fix=f"Set {key}.")
    if fault.drift_ppm and fault.kind != "clock":
        raise Refused(f"{line}: drift_ppm is for clocks only", code="bad_fault", fix="Leave drift_ppm out.")
