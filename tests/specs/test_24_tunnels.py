"""specs/24-tunnels.md against the code of tunnels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import specs
from node.tunnels import client, ends, server
from protocol import jobspec, wire
from protocol.errors import Refused
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec
from protocol.overlay import tunnel, tunnel_frames
from protocol.overlay.tunnel import Access, Held, OpenPort, Ticket, Tunnel
from protocol.overlay.tunnel_frames import Frame, Kind, credit
from protocol.units import Micros, PeerId

SPEC = specs.load("24-tunnels")
MODULES = (jobspec, server, client, ends, tunnel, tunnel_frames)
RENTER, OTHER = Identity(b"r" * 32), Identity(b"o" * 32)
PEERS = st.sampled_from([PeerId(b"s" * 32), PeerId(b"x" * 32)])


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_kinds_are_the_code_s() -> None:
    assert {row["kind"]: int(row["number"]) for row in SPEC.table("frames")} == {kind.name: kind for kind in Kind}


@given(payload=st.binary(min_size=1, max_size=99))
def test_frames_are_packed_as_said(payload: bytes) -> None:
    assert Frame(Kind.DATA, payload).pack() == SPEC.functions["pack"](Kind.DATA, payload)


@given(
    peer=PEERS, bearer=PEERS, signer=st.sampled_from([RENTER, OTHER]), has_ticket=st.booleans(),
    offset=st.sampled_from([-1, 0, 1, tunnel.TICKET_SPAN_MAX, tunnel.TICKET_SPAN_MAX + 1]),
)  # fmt: skip
def test_the_same_are_let_in(peer: PeerId, bearer: PeerId, signer: Identity, has_ticket: bool, offset: int) -> None:
    now, job = Micros(10**15), b"j" * 16
    spec = JobSpec("a", "python", ("x",), (Chunk(),), audit_ppm=0, ports=(22,))
    held = Held("t", job, 0, 1, PeerId(b"s" * 32), RENTER.peer, spec, is_running=True)
    signed = wire.sign(signer, "net", "tunnel", Ticket(job, 0, 22, bearer, now + offset)) if has_ticket else None
    try:
        Access("net").admit(peer, OpenPort(job, 0, 22, signed), held, now)
        is_in = True
    except Refused:
        is_in = False
    named = (signer.peer, bearer, now + offset) if has_ticket else None
    assert SPEC.functions["may_ask"](peer, held.steward, named, RENTER.peer, now) == is_in


@given(st.lists(st.tuples(st.integers(1, 20_000), st.booleans()), max_size=40))
def test_room_is_what_is_said(steps: list[tuple[int, bool]]) -> None:
    end, sent, credited = Tunnel("asker", PeerId(bytes(32)), False, Micros(0)), 0, 0
    for size, is_credit in steps:
        if is_credit:
            size = min(size, sent - credited)
            end.receive(credit(size), Micros(0))
            credited += size
        elif size <= end.room:
            end.send(Frame(Kind.DATA, bytes(size)), Micros(0))
            sent += size
        assert end.room == SPEC.functions["room"](sent, credited)
