"""Tunnels without a network: who is let in, and two ends over a link that cuts bytes anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec
from protocol.overlay.tunnel import (
    IDLE_MAX,
    TICKET_SPAN_MAX,
    WINDOW_BYTES,
    Access,
    Held,
    OpenPort,
    OpenShell,
    Request,
    Ticket,
    Tunnel,
    request_decoder,
)
from protocol.overlay.tunnel_frames import (
    PAYLOAD_BYTES_MAX,
    Frame,
    FrameCutter,
    Kind,
    credit,
    exit_frame,
    fault,
    fault_decoder,
    resize,
)
from protocol.units import Micros, PeerId
from protocol.wire import Signed

STEWARD, STRANGER = PeerId(b"s" * 32), PeerId(b"x" * 32)
RENTER, OTHER = Identity(b"r" * 32), Identity(b"o" * 32)
JOB, NOW = b"j" * 16, Micros(10**15)
SPEC = JobSpec("a", "python", ("x",), (Chunk(),), audit_ppm=0, ports=(22, 8888), shell=True)
HELD = Held("task", JOB, 3, 1, STEWARD, RENTER.peer, SPEC, is_running=True)
ACCESS = Access("net")


def code_of(peer: PeerId, request: Request, held: Held | None = HELD) -> str:
    try:
        assert ACCESS.admit(peer, request, held, NOW) is held
    except Refused as refusal:
        assert refusal.detail and refusal.fix
        return refusal.code
    return "ok"


def ticket(signer: Identity = RENTER, network: str = "net", kind: str = "tunnel", **changes: object) -> Signed:
    fields: dict[str, object] = {"job": JOB, "chunk": 3, "port": 22, "bearer": STRANGER, "expires": NOW + 1}
    return wire.sign(signer, network, kind, Ticket(**{**fields, **changes}))  # type: ignore[arg-type]


def test_the_steward_reaches_what_the_job_declares() -> None:
    assert code_of(STEWARD, OpenPort(JOB, 3, 8888)) == "ok"
    assert code_of(STEWARD, OpenShell(JOB, 3)) == "ok"
    assert code_of(STEWARD, OpenPort(JOB, 3, 80)) == "port_not_declared"
    assert code_of(STRANGER, OpenPort(JOB, 3, 80)) == "no_such_chunk"
    assert code_of(STEWARD, OpenPort(JOB, 3, 22), None) == "no_such_chunk"


def test_a_job_without_a_shell_has_none_and_a_chunk_that_waits_is_not_entered() -> None:
    closed = Held("t", JOB, 3, 1, STEWARD, RENTER.peer, JobSpec("a", "python", ("x",), (Chunk(),)), is_running=False)
    assert code_of(STEWARD, OpenShell(JOB, 3), closed) == "no_shell"
    waits = Held("t", JOB, 3, 1, STEWARD, RENTER.peer, SPEC, is_running=False)
    assert code_of(STEWARD, OpenPort(JOB, 3, 22), waits) == "chunk_not_running"


def test_a_ticket_is_for_one_bearer_one_port_and_an_hour() -> None:
    def code(signed: Signed, peer: PeerId = STRANGER, port: int = 22) -> str:
        return code_of(peer, OpenPort(JOB, 3, port, signed))

    assert code(ticket()) == "ok"
    assert code(ticket(expires=NOW + TICKET_SPAN_MAX)) == "ok"
    assert code(ticket(), peer=STEWARD) == "no_such_chunk"
    assert code(ticket(), port=8888) == "no_such_chunk"
    assert code(ticket(chunk=2)) == code(ticket(job=b"k" * 16)) == code(ticket(signer=OTHER)) == "no_such_chunk"
    assert code(ticket(expires=NOW)) == code(ticket(expires=NOW + TICKET_SPAN_MAX + 1)) == "ticket_expired"
    assert code_of(STRANGER, OpenShell(JOB, 3, ticket=ticket())) == "no_such_chunk"
    assert code_of(STRANGER, OpenShell(JOB, 3, ticket=ticket(port=0))) == "ok"


@pytest.mark.parametrize("signed", [ticket(network="other"), ticket(kind="op")])
def test_a_signature_for_something_else_is_a_violation(signed: Signed) -> None:
    with pytest.raises(RemoteViolation, match="bad signature"):
        ACCESS.admit(STRANGER, OpenPort(JOB, 3, 22, signed), HELD, NOW)


@given(st.binary(max_size=200))
def test_hostile_requests_are_violations(data: bytes) -> None:
    try:
        wire.decode(data, request_decoder, STRANGER)
    except RemoteViolation as violation:
        assert violation.peer == STRANGER


FRAMES = st.one_of(
    st.builds(Frame, st.sampled_from([Kind.DATA, Kind.STDERR]), st.binary(min_size=1, max_size=300)),
    st.just(Frame(Kind.END)),
    st.builds(resize, st.integers(-5, 5_000), st.integers(-5, 5_000)),
    st.builds(exit_frame, st.integers(-(2**31), 2**31 - 1)),
    st.builds(credit, st.integers(0, 2**32 - 1)),
    st.builds(lambda text: fault(Refused(text, code=text, fix=text)), st.text(max_size=600)),
)


@given(frames=st.lists(FRAMES, max_size=12), cuts=st.lists(st.integers(1, 400), min_size=1, max_size=30))
def test_frames_are_the_same_however_the_bytes_arrive(frames: list[Frame], cuts: list[int]) -> None:
    data, cutter, found = b"".join(frame.pack() for frame in frames), FrameCutter(STRANGER), list[Frame]()
    while data:
        size = cuts[len(data) % len(cuts)]
        found += cutter.feed(data[:size])
        data = data[size:]
    assert found == frames and cutter.is_between
    for frame in found:
        if frame.kind is Kind.FAULT:
            assert wire.decode(frame.payload, fault_decoder, STRANGER).is_refusal


@given(st.binary(max_size=100))
def test_hostile_bytes_are_violations_and_hold_no_memory(data: bytes) -> None:
    cutter = FrameCutter(STRANGER)
    try:
        cutter.feed(data)
    except RemoteViolation as violation:
        assert violation.code in ("malformed", "over_limit")


class Link:
    """Both ends of a tunnel, and the bytes on their way in each direction."""

    def __init__(self, *, is_shell: bool = False) -> None:
        self.ends = {
            "asker": Tunnel("asker", STRANGER, is_shell, NOW),
            "server": Tunnel("server", STRANGER, is_shell, NOW),
        }
        self.ways = {"asker": b"", "server": b""}
        self.got = {"asker": b"", "server": b""}
        self.cutters = {name: FrameCutter(STRANGER) for name in self.ends}

    def say(self, name: str, frame: Frame) -> None:
        self.ways[name] += self.ends[name].send(frame, NOW)

    def move(self, name: str, *, is_taken: bool = True) -> None:
        """Everything that `name` has sent arrives."""
        other = "server" if name == "asker" else "asker"
        data, self.ways[name] = self.ways[name], b""
        for frame in self.cutters[other].feed(data):
            heard = self.ends[other].receive(frame, NOW)
            if heard is not None and heard.kind is Kind.DATA:
                self.got[other] += heard.payload
                if is_taken:
                    self.ways[other] += self.ends[other].taken(len(heard.payload), NOW)


@given(
    st.lists(
        st.tuples(st.sampled_from(["asker", "server"]), st.integers(1, PAYLOAD_BYTES_MAX), st.booleans()), max_size=60
    )
)
def test_any_amount_goes_through_within_the_window(steps: list[tuple[str, int, bool]]) -> None:
    link = Link()
    sent = {"asker": 0, "server": 0}
    for name, size, is_moved in steps:
        size = min(size, link.ends[name].room)
        if size:
            link.say(name, Frame(Kind.DATA, bytes(size)))
            sent[name] += size
        assert len(link.ways[name]) <= WINDOW_BYTES * 2
        if is_moved or not link.ends[name].room:
            link.move(name)
            link.move("server" if name == "asker" else "asker")
            assert link.ends[name].room > 0
    for _ in range(2):
        link.move("asker")
        link.move("server")
    assert {"server": sent["asker"], "asker": sent["server"]} == {name: len(data) for name, data in link.got.items()}
    for name in link.ends:
        link.say(name, Frame(Kind.END))
    link.move("asker")
    link.move("server")
    assert all(end.is_over for end in link.ends.values())
    assert link.ends["asker"].counts.sent == link.ends["server"].counts.received == sent["asker"]


def test_one_direction_ends_and_the_other_goes_on() -> None:
    link = Link()
    link.say("asker", Frame(Kind.END))
    link.move("asker")
    link.say("server", Frame(Kind.DATA, b"late"))
    link.move("server")
    assert link.got["asker"] == b"late" and not link.ends["server"].is_over
    with pytest.raises(LocalError):
        link.say("asker", Frame(Kind.DATA, b"more"))
    with pytest.raises(RemoteViolation, match="DATA out of place"):
        link.ends["server"].receive(Frame(Kind.DATA, b"more"), NOW)


def test_a_shell_is_over_when_its_exit_code_is_known() -> None:
    link = Link(is_shell=True)
    for name in link.ends:
        link.say(name, Frame(Kind.END))
        link.move(name)
    assert not any(end.is_over for end in link.ends.values())
    link.say("asker", resize(3, 4))
    link.say("server", exit_frame(3))
    link.move("server")
    link.move("asker")  # The size was on its way when the program ended: no fault.
    assert all(end.is_over for end in link.ends.values())


def test_who_sends_more_than_there_is_room_for_breaks_a_rule() -> None:
    tunnel = Tunnel("server", STRANGER, False, NOW)
    full = Frame(Kind.DATA, bytes(PAYLOAD_BYTES_MAX))
    for _ in range(WINDOW_BYTES // PAYLOAD_BYTES_MAX):
        tunnel.receive(full, NOW)
    with pytest.raises(RemoteViolation, match="more bytes than"):
        tunnel.receive(full, NOW)
    with pytest.raises(RemoteViolation, match="more credit than"):
        Tunnel("server", STRANGER, False, NOW).receive(credit(1), NOW)


@pytest.mark.parametrize(
    ("side", "is_shell", "frame"),
    [
        ("asker", False, exit_frame(0)),
        ("asker", False, Frame(Kind.STDERR, b"x")),
        ("server", False, resize(1, 1)),
        ("server", True, exit_frame(0)),
        ("server", True, Frame(Kind.STDERR, b"x")),
        ("asker", True, resize(1, 1)),
    ],
)
def test_each_side_says_only_what_is_its_to_say(side: str, is_shell: bool, frame: Frame) -> None:
    tunnel = Tunnel("asker" if side == "asker" else "server", STRANGER, is_shell, NOW)
    with pytest.raises(RemoteViolation, match="out of place"):
        tunnel.receive(frame, NOW)


def test_a_tunnel_is_idle_when_nothing_moved_for_ten_minutes() -> None:
    tunnel = Tunnel("server", STRANGER, False, NOW)
    later = Micros(NOW + IDLE_MAX - 1)
    assert not tunnel.is_idle(later)
    tunnel.receive(Frame(Kind.DATA, b"x"), later)
    assert not tunnel.is_idle(Micros(NOW + IDLE_MAX))
    assert tunnel.is_idle(Micros(later + IDLE_MAX))
