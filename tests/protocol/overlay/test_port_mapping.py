"""Leases at a router: which method, when to repeat, renew, give up; restarts, refusals, lies and silence."""

from __future__ import annotations

import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay import pcp
from protocol.overlay.lease import Gained, Lost, MapByUpnp, MappingEffect, Transmit, UnmapByUpnp
from protocol.overlay.port_mapping import (
    CHECK_INTERVAL,
    LIFETIME_S,
    NAT_PMP_TRIES,
    PCP_FIRST,
    PCP_TRIES,
    REST,
    UPNP_INTERVAL,
    PortMapping,
)
from protocol.units import HOUR, MINUTE, SECOND, Micros

NOW = Micros(1_800_000_000 * SECOND)
ME, OUTSIDE = "192.168.1.77", "44.1.2.3"
NONCES = (b"c" * 12, b"d" * 12)


class Router:
    """A router's side of PCP and NAT-PMP, as far as a client sees it."""

    def __init__(self, speaks_pcp: bool = True, speaks_nat_pmp: bool = True, lifetime: int = 3600) -> None:
        self.speaks_pcp, self.speaks_nat_pmp, self.lifetime = speaks_pcp, speaks_nat_pmp, lifetime
        self.started = NOW - 1000 * SECOND
        self.table: dict[int, int] = {}
        self.ip = OUTSIDE
        self.refuses = 0
        self.asked = 0

    def reply(self, data: bytes, now: int) -> bytes | None:
        self.asked += 1
        epoch = (now - self.started) // SECOND
        packed = bytes(int(part) for part in self.ip.split("."))
        if data[0] == 2 and self.speaks_pcp:
            head = struct.pack("!BBBBII12x", 2, data[1] | 0x80, 0, self.refuses, 0, epoch)
            if data[1] == 0:
                return head
            lifetime = int.from_bytes(data[4:8], "big")
            internal, wish = struct.unpack_from("!HH", data, 40)
            external = self._write(internal, wish, lifetime)
            head = head[:4] + min(lifetime, self.lifetime).to_bytes(4, "big") + head[8:]
            return head + data[24:42] + external.to_bytes(2, "big") + bytes(10) + b"\xff\xff" + packed
        if data[0] == 0 and self.speaks_nat_pmp:
            head = struct.pack("!BBHI", 0, data[1] | 0x80, self.refuses, epoch)
            if data[1] == 0:
                return head + packed
            _, internal, wish, lifetime = struct.unpack_from("!HHHI", data, 2)
            return head + struct.pack(
                "!HHI", internal, self._write(internal, wish, lifetime), min(lifetime, self.lifetime)
            )
        return None

    def _write(self, internal: int, wish: int, lifetime: int) -> int:
        if not lifetime:
            self.table.pop(internal, None)
            return 0
        if not self.refuses:
            self.table[internal] = wish
        return wish

    def restart(self, now: int) -> None:
        self.started, self.table = now, {}


class Play:
    """A machine and a router, and a clock that jumps to what comes next."""

    def __init__(
        self, router: Router, ports: tuple[int, ...] = (4301, 4302), upnp: str = "refuse", seed: int = 1
    ) -> None:
        self.router, self.upnp = router, upnp
        self.machine = PortMapping(ME, ports, NONCES[: len(ports)], random.Random(seed))
        self.now: int = NOW
        self.events: list[Gained | Lost] = []
        self.log: list[tuple[int, MappingEffect]] = []
        self.lost_datagrams = 0

    def act(self, effects: list[MappingEffect]) -> None:
        now = Micros(self.now)
        for effect in effects:
            self.log.append((self.now - NOW, effect))
            match effect:
                case Gained() | Lost():
                    self.events.append(effect)
                case Transmit(data=data):
                    answer = self.router.reply(data, self.now)
                    if self.lost_datagrams:
                        self.lost_datagrams -= 1
                    elif answer is not None:
                        self.act(self.machine.datagram(answer, now))
                case MapByUpnp(internal_port=port, external_port=wish, lifetime_s=seconds):
                    if self.upnp == "works":
                        self.act(self.machine.upnp_mapped(port, OUTSIDE, wish, seconds, now))
                    elif self.upnp == "refuse":
                        self.act(self.machine.upnp_failed("switched off", now))
                case UnmapByUpnp():
                    self.router.table.clear()

    def run(self, span: int) -> None:
        end = self.now + span
        while True:
            self.act(self.machine.tick(Micros(self.now)))
            following = max(self.machine.next_wake, self.now + 1)
            if following > end:
                self.now = end
                return
            self.now = following

    def methods(self) -> set[str]:
        return {lease.method for lease in self.machine.leases}

    def gained(self) -> list[tuple[int, int]]:
        return [
            (event.lease.internal_port, event.lease.external_port) for event in self.events if isinstance(event, Gained)
        ]


def test_pcp_maps_both_ports_at_once() -> None:
    play = Play(Router())
    play.run(SECOND)
    assert play.methods() == {"pcp"}
    assert play.gained() == [(4301, 4301), (4302, 4302)]
    assert play.machine.router_ip == OUTSIDE
    assert play.router.asked == 2


def test_nat_pmp_where_pcp_is_unknown() -> None:
    play = Play(Router(speaks_pcp=False))
    play.run(20 * SECOND)
    assert play.methods() == {"nat_pmp"}
    assert {lease.external_ip for lease in play.machine.leases} == {OUTSIDE}
    assert set(play.gained()) == {(4301, 4301), (4302, 4302)}
    assert play.machine.failures == {"pcp": "no answer"}


def test_an_answer_in_version_0_ends_pcp_at_once() -> None:
    play = Play(Router(speaks_pcp=False))
    play.act(play.machine.tick(NOW))
    play.act(play.machine.datagram(bytes.fromhex("0081000100000005"), NOW))
    assert play.methods() == {"nat_pmp"}


def test_upnp_last_and_written_again() -> None:
    play = Play(Router(False, False), upnp="works")
    play.run(MINUTE)
    assert play.methods() == {"upnp"}
    before = len([1 for _, effect in play.log if isinstance(effect, MapByUpnp)])
    play.run(3 * UPNP_INTERVAL)
    assert len([1 for _, effect in play.log if isinstance(effect, MapByUpnp)]) >= before + 4
    assert len(play.gained()) == 2


def test_a_silent_router_costs_little_and_is_asked_again_later() -> None:
    router = Router(False, False)
    play = Play(router)
    play.run(MINUTE)
    assert router.asked == 2 * PCP_TRIES + 2 * 2 * NAT_PMP_TRIES
    assert set(play.machine.failures) == {"pcp", "nat_pmp", "upnp"}
    play.run(REST // 2)
    assert router.asked == 2 * PCP_TRIES + 2 * 2 * NAT_PMP_TRIES
    router.speaks_pcp = True
    play.run(REST)
    assert play.methods() == {"pcp"}


def test_repetitions_follow_the_rfc() -> None:
    play = Play(Router(False, False), ports=(4301,))
    play.run(MINUTE)
    sent = [at for at, effect in play.log if isinstance(effect, Transmit) and effect.data[0] == 2]
    assert sent[0] == 0
    assert 0.9 * PCP_FIRST <= sent[1] <= 1.1 * PCP_FIRST
    mapped = [at for at, effect in play.log if isinstance(effect, Transmit) and effect.data[:2] == b"\0\2"]
    assert [after - before for before, after in itertools.pairwise(mapped)] == [
        250_000, 500_000, 1_000_000, 2_000_000,
    ]  # fmt: skip


def test_nobody_listens_there_skips_to_upnp_at_once() -> None:
    play = Play(Router(False, False), upnp="works")
    play.act(play.machine.tick(NOW))
    play.act(play.machine.unreachable(NOW))
    play.act(play.machine.unreachable(NOW))
    assert play.methods() == {"upnp"}


@pytest.mark.parametrize("result", [2, 8, 12])
def test_a_router_that_refuses(result: int) -> None:
    router = Router()
    router.refuses = result
    play = Play(router)
    play.run(MINUTE)
    assert play.machine.leases == []
    assert play.machine.failures["pcp"] == pcp.result_text(result)
    assert play.machine.failures["upnp"] == "switched off"


def test_renewed_at_half_life_without_a_word() -> None:
    router = Router(lifetime=600)
    play = Play(router)
    play.run(2 * HOUR)
    assert len(play.events) == 2
    maps = [at for at, effect in play.log if isinstance(effect, Transmit) and effect.data[1] == 1]
    per_port = sorted(maps)[::2]
    gaps = [after - before for before, after in itertools.pairwise(per_port)]
    assert all(295 * SECOND <= gap <= 380 * SECOND for gap in gaps)


def test_a_restart_is_noticed_by_the_next_check_and_mapped_again() -> None:
    play = Play(Router())
    play.run(10 * MINUTE)
    play.router.restart(play.now)
    play.run(2 * CHECK_INTERVAL)
    assert [type(event).__name__ for event in play.events] == ["Gained"] * 2 + ["Lost"] * 2 + ["Gained"] * 2
    assert play.router.table == {4301: 4301, 4302: 4302}


@pytest.mark.parametrize("speaks_pcp", [True, False])
def test_an_announcement_maps_again_at_once(speaks_pcp: bool) -> None:
    router = Router(speaks_pcp=speaks_pcp)
    play = Play(router)
    play.run(10 * MINUTE)
    router.restart(play.now)
    words = bytes.fromhex("028000000000000000000001" + "00" * 12), bytes.fromhex("00800000000000012c010203")
    for data in words:
        play.act(play.machine.announced(data, Micros(play.now)))
    assert router.table == {4301: 4301, 4302: 4302}


def test_an_announcement_of_a_router_that_hardly_ran_renews_once() -> None:
    play = Play(Router())
    play.run(SECOND)
    play.router.started, asked = play.now - SECOND, play.router.asked
    play.machine.datagram(play.router.reply(pcp.announce_request(ME), play.now) or b"", Micros(play.now))
    play.router.restart(play.now)
    for _ in range(5):
        play.act(play.machine.announced(bytes.fromhex("028000000000000000000000" + "00" * 12), Micros(play.now)))
    assert play.router.table == {4301: 4301, 4302: 4302}
    assert play.router.asked <= asked + 5


def test_an_announcement_wakes_who_had_given_up() -> None:
    router = Router(False, False)
    play = Play(router)
    play.run(2 * MINUTE)
    router.speaks_pcp = True
    play.act(play.machine.announced(bytes.fromhex("028000000000000000000001" + "00" * 12), Micros(play.now)))
    assert play.methods() == {"pcp"}
    assert play.machine.announced(b"rubbish", Micros(play.now)) == []


def test_a_lease_that_nobody_renews_ends() -> None:
    router = Router()
    play = Play(router)
    play.run(SECOND)
    router.speaks_pcp = router.speaks_nat_pmp = False
    play.run(2 * HOUR)
    assert [event.why for event in play.events if isinstance(event, Lost)] == [
        "the lease ended and was not renewed"
    ] * 2
    assert play.machine.leases == []
    router.speaks_pcp = True
    play.run(REST + MINUTE)
    assert play.methods() == {"pcp"}


def test_a_new_outside_address_is_told() -> None:
    play = Play(Router(speaks_pcp=False))
    play.run(MINUTE)
    play.router.ip = "44.9.9.9"
    play.run(2 * CHECK_INTERVAL)
    assert {lease.external_ip for lease in play.machine.leases} == {"44.9.9.9"}
    assert len(play.gained()) == 4


@pytest.mark.parametrize("upnp", [False, True])
def test_closing_gives_everything_back(upnp: bool) -> None:
    play = Play(Router(not upnp, False), upnp="works" if upnp else "refuse")
    play.run(MINUTE)
    play.act(play.machine.close())
    assert play.router.table == {}
    assert play.machine.leases == []


def test_answers_to_others_are_ignored() -> None:
    play = Play(Router())
    play.router.speaks_pcp = False
    play.act(play.machine.tick(NOW))
    forged = pcp.map_request(ME, b"?" * 12, 4301, 9, "", LIFETIME_S)
    spoken = Router().reply(forged, NOW)
    assert spoken is not None
    assert play.machine.datagram(spoken, NOW) == []
    assert play.machine.leases == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("bytes"), st.binary(max_size=70)),
            st.tuples(st.just("pcp"), st.binary(min_size=58, max_size=58)),
            st.tuples(st.just("pmp"), st.binary(min_size=6, max_size=14)),
            st.tuples(st.just("wait"), st.integers(0, 10**9)),
            st.tuples(st.just("restart"), st.none()),
            st.tuples(st.just("unreachable"), st.none()),
            st.tuples(st.just("upnp"), st.none()),
        ),
        max_size=40,
    ),
    st.booleans(),
    st.booleans(),
)
def test_whatever_comes_it_goes_on(script: list[tuple[str, object]], speaks_pcp: bool, speaks_nat_pmp: bool) -> None:
    """Rubbish, restarts and silence in any order: never an error, never a flood, and a good router wins in the end."""
    play = Play(Router(speaks_pcp, speaks_nat_pmp))
    for kind, what in script:
        if isinstance(what, int):
            play.run(what)
        elif isinstance(what, bytes):
            head = {"bytes": b"", "pcp": b"\2\x81", "pmp": b"\0\x82"}[kind]
            play.act(play.machine.datagram(head + what, Micros(play.now)))
            play.act(play.machine.announced(head + what, Micros(play.now)))
        elif kind == "restart":
            play.router.restart(play.now)
        elif kind == "unreachable":
            play.act(play.machine.unreachable(Micros(play.now)))
        else:
            play.act(play.machine.upnp_failed("odd", Micros(play.now)))
    assert len(play.log) < 200 + 40 * 400
    play.router.speaks_pcp = play.router.speaks_nat_pmp = True
    play.run(30 * HOUR)
    assert {lease.internal_port for lease in play.machine.leases} == {4301, 4302}
    assert play.router.table == {lease.internal_port: lease.external_port for lease in play.machine.leases}
