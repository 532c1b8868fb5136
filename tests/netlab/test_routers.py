"""Every router is what its row of the table says, seen by raw sockets; no Shoal is involved."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Literal

import pytest
import trio

from benchmarks.netlab.laboratory import Laboratory
from benchmarks.netlab.punch import GIVE_UP_S, Observed, observe, punch_tcp, punch_udp, tcp, udp
from benchmarks.netlab.routers import KINDS, ROUTERS, Kind, can_punch

PUNCHED_MS = 500.0
"""On wires."""

PATIENCE_S = 60.0
"""For what must happen, within milliseconds on an idle machine."""

Transport = Literal["udp", "tcp"]


async def test_mapping_and_filtering(lab: Laboratory) -> None:
    first, second = lab.house("first", "public").host, lab.house("second", "public").host
    hosts = {kind: lab.house(kind, kind, hosts=2).hosts[1] for kind in KINDS}
    seen: dict[Kind, Observed | None] = {}

    async def look(kind: Kind) -> None:
        seen[kind] = await observe(hosts[kind], first, second)
        if seen[kind] != promised(kind):  # What came too late on a machine that is held up is waited for.
            seen[kind] = await observe(hosts[kind], first, second, PATIENCE_S)

    async with trio.open_nursery() as nursery:
        for kind in KINDS:
            nursery.start_soon(look, kind)
    for kind in ROUTERS:
        assert seen[kind] == promised(kind), kind


def promised(kind: Kind) -> Observed | None:
    """What a router's row says."""
    router = ROUTERS[kind]
    return Observed(router.mapping, router.filtering, router.keeps_port) if router.has_udp else None


async def test_who_can_punch_with_whom(lab: Laboratory) -> None:
    found = await punched(lab)
    assert {key: took is not None for key, took in found.items()} == {key: can_punch(*key) for key in found}


@pytest.mark.netlab
async def test_a_punch_takes_half_a_second_at_most(lab: Laboratory) -> None:
    """On a machine that does nothing else; the pairs run at once."""
    times = sorted(took for took in (await punched(lab)).values() if took is not None)
    assert times[len(times) // 2] < PUNCHED_MS


async def punched(lab: Laboratory) -> dict[tuple[Kind, Kind, Transport], float | None]:
    """How long every pair of routers took, None where it gave up: soon where the table says that it cannot be."""
    meeting = lab.house("meeting", "public").host
    for kind in KINDS:
        lab.house(f"{kind}-a", kind)
        lab.house(f"{kind}-b", kind)
    found: dict[tuple[Kind, Kind, Transport], float | None] = {}

    def patience(one: Kind, other: Kind, transport: Transport) -> float:
        return PATIENCE_S if can_punch(one, other, transport) else GIVE_UP_S

    async def both(one: Kind, other: Kind, port: int) -> None:
        a, b = lab.houses[f"{one}-a"].host, lab.houses[f"{other}-b"].host
        found[one, other, "udp"] = await punch_udp(a, b, meeting, patience(one, other, "udp"))
        found[one, other, "tcp"] = await punch_tcp(a, b, meeting, port, patience(one, other, "tcp"))

    pairs = list(combinations_with_replacement(KINDS, 2))
    async with trio.open_nursery() as nursery:
        for number, (one, other) in enumerate(pairs):
            nursery.start_soon(both, one, other, 5_000 + number)
    assert len(found) == 2 * len(pairs)
    return found


async def test_hosts_of_one_house_talk_without_the_router(lab: Laboratory) -> None:
    one, other = lab.house("home", "tcp-only", hosts=2).hosts
    meeting = lab.house("meeting", "public").host
    listener = udp(other, 4_301)
    caller = udp(one)
    try:
        await caller.sendto(b"hello", (other.address, 4_301))
        with trio.fail_after(PATIENCE_S):
            assert (await listener.recvfrom(16))[0] == b"hello"
        assert await punch_udp(one, meeting, meeting) is None
    finally:
        listener.close()
        caller.close()


async def test_a_private_address_of_another_house_leads_to_nobody(lab: Laboratory) -> None:
    lab.house("home", "full-cone")
    stranger = lab.house("other", "full-cone", hosts=2).hosts[1]
    assert stranger.address == "192.168.1.11"
    caller = tcp(lab.houses["home"].host, 0)
    try:
        with trio.move_on_after(0.5) as waiting:
            await caller.connect((stranger.address, 4_301))
        assert waiting.cancelled_caught, "somebody answered"
    finally:
        caller.close()


async def test_no_router_resets_what_it_does_not_let_in(lab: Laboratory) -> None:
    shop = lab.house("shop", "public").host
    answered: list[Kind] = []

    async def knock(kind: Kind) -> None:
        caller = tcp(shop, 0)
        try:
            with trio.move_on_after(0.5) as waiting:
                await caller.connect((lab.houses[kind].address, 4_301))
        except OSError:
            answered.append(kind)
        else:
            if not waiting.cancelled_caught:
                answered.append(kind)
        finally:
            caller.close()

    async with trio.open_nursery() as nursery:
        for kind in KINDS:
            if kind != "public":
                lab.house(kind, kind)
                nursery.start_soon(knock, kind)
    assert answered == []
