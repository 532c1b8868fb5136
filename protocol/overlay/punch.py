"""Hole punching, DCUtR (`/libp2p/dcutr`): two peers behind routers dial each other at the same moment.

The listener of the relayed connection initiates: it sends CONNECT, measures the round trip until the answer, sends SYNC
and dials half a round trip later, while the other side dials when SYNC arrives. Both first packets cross, each opens
the router behind it, and the two dials become one connection. Spec: specs/20-relays.md, libp2p's relay/DCUtR.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from protocol.errors import LocalError, RemoteViolation
from protocol.overlay.nat_kind import NatKind
from protocol.overlay.relay_rates import Quota
from protocol.units import HOUR, MINUTE, SECOND, Micros, PeerId

GIVE_UP_US: Final = Micros(6 * SECOND)
"""A punch ends after six seconds, whatever happened; the relayed connection works all the while."""

ANSWER_US: Final = Micros(3 * SECOND // 2)
"""The answer to CONNECT, and SYNC, have to come within 1.5 s: a relayed round trip is rarely longer than 0.5 s."""

DIAL_US: Final = Micros(2 * SECOND)
"""One round of dials: a first packet that was lost is sent again after one second, and a handshake takes four trips."""

ATTEMPTS: Final = 2
"""97.6 % of the punches that succeed do so the first time (arXiv 2510.27500): one quick retry, no more."""

ADDRESSES_MAX: Final = 4
"""Addresses that are dialled for a peer: nobody makes us knock at a hundred doors."""

PUNCH_SOON_US: Final = Micros(10 * SECOND)
"""Wait, doubled each time, after a punch that proved nothing: who just started knows neither address nor router."""

PUNCH_AGAIN_US: Final = Micros(1 * MINUTE)
"""Wait after the first failed punch: a busy machine or a lost packet is the reason as often as the routers are."""

PUNCH_RETRY_US: Final = Micros(10 * MINUTE)
"""Wait after the second failed punch, doubled each time; a change of our own addresses ends it."""

PUNCH_RETRY_MAX_US: Final = Micros(2 * HOUR)
"""Longest wait before a peer is tried again."""

ANSWERS_PER_MINUTE: Final = 6
"""Punches of one peer that are answered: each makes us dial addresses that it names."""

PEERS_MAX: Final = 1_024
"""Peers whose failures are remembered; the oldest are forgotten first."""

Role = Literal["client", "server"]
"""Who speaks first on a connection that both dialled: the client, which is the side that answered CONNECT."""


@dataclass(frozen=True, slots=True)
class Connect:
    """The addresses under which others see the sender."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sync:
    """Dial now."""


Message = Connect | Sync


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing was said yet."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The initiator waits for the other side's addresses."""

    sent_at: Micros
    until: Micros


@dataclass(frozen=True, slots=True)
class Listening:
    """The responder waits for CONNECT."""

    until: Micros


@dataclass(frozen=True, slots=True)
class Ready:
    """The responder has told its addresses and waits for SYNC."""

    addresses: tuple[str, ...]
    until: Micros


@dataclass(frozen=True, slots=True)
class Dialling:
    """Both sides dial."""

    until: Micros


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over."""

    is_direct: bool
    why: str


State = Idle | Asking | Listening | Ready | Dialling | Ended


@dataclass(frozen=True, slots=True)
class Open:
    """Open a stream to the peer over the relayed connection."""


@dataclass(frozen=True, slots=True)
class Send:
    """Say this on the stream."""

    message: Message


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial all addresses at `at`, again and again until `until`, in this role."""

    at: Micros
    until: Micros
    addresses: tuple[str, ...]
    role: Role


Effect = Open | Send | Dial


class Punch:
    """One punch, of either side. Feed it what happens; do what it returns; stop when `state` is Ended.

    `addresses` are our own as others see them; `is_allowed` says which of theirs may be dialled."""

    def __init__(
        self,
        peer: PeerId,
        addresses: tuple[str, ...],
        kinds: tuple[NatKind, NatKind],
        is_allowed: Callable[[str], bool],
    ) -> None:
        self.peer = peer
        self.state: State = Idle()
        self.attempt = 0
        self.is_verdict = False
        """Whether its end tells about the two routers: somebody dialled, and both sides knew what their routers do."""
        self._addresses = addresses
        self._kinds = kinds
        self._is_allowed = is_allowed
        self._deadline = Micros(0)

    def initiate(self, now: Micros) -> tuple[Effect, ...]:
        """We are the listener of the relayed connection: begin."""
        self._begin(now)
        if not attempts(*self._kinds):
            return self._end("both routers change their mapping with every destination")
        return self._ask(now)

    def answer(self, now: Micros) -> tuple[Effect, ...]:
        """The other side opened a stream: hear it."""
        self._begin(now)
        self.state = Listening(self._until(now, ANSWER_US))
        return ()

    def receive(self, message: Message, now: Micros) -> tuple[Effect, ...]:
        """A message came. RemoteViolation when it is not the one that is due."""
        match self.state, message:
            case Asking(sent_at=sent_at), Connect(addresses=addresses):
                dial = self._dial(addresses, Micros(now + (now - sent_at) // 2))
                return (Send(Sync()), *dial)
            case Listening(), Connect(addresses=addresses):
                self.state = Ready(addresses, self._until(now, ANSWER_US))
                return (Send(Connect(self._addresses)),)
            case Ready(addresses=addresses), Sync():
                return self._dial(addresses, now, is_initiator=False)
            case Ended(), _:
                return ()
        name = type(message).__name__.upper()
        raise RemoteViolation(self.peer, f"{name} while {type(self.state).__name__}", code="punch_order")

    def connected(self) -> None:
        """A direct connection is there."""
        self.state = Ended(True, "direct")

    def failed(self, why: str, now: Micros) -> tuple[Effect, ...]:
        """The stream broke, or no dial of this round came through."""
        is_asked = isinstance(self.state, Asking | Dialling) and 0 < self.attempt < attempts(*self._kinds)
        if isinstance(self.state, Ended) or not is_asked or now >= self._deadline:
            return self._end(why)
        return self._ask(now)

    def tick(self, now: Micros) -> tuple[Effect, ...]:
        """Time passed."""
        match self.state:
            case Asking(until=until) | Listening(until=until) | Ready(until=until) | Dialling(until=until):
                if now >= until:
                    return self.failed(f"no success within {type(self.state).__name__.lower()}", now)
        return ()

    @property
    def due(self) -> Micros | None:
        """When `tick` has something to do; None when never."""
        return None if isinstance(self.state, Idle | Ended) else self.state.until

    def _begin(self, now: Micros) -> None:
        if not isinstance(self.state, Idle):
            raise LocalError("a punch begins once", code="punch_order")
        self._deadline = Micros(now + GIVE_UP_US)

    def _until(self, now: Micros, span: Micros) -> Micros:
        return Micros(min(now + span, self._deadline))

    def _ask(self, now: Micros) -> tuple[Effect, ...]:
        self.attempt += 1
        self.state = Asking(now, self._until(now, ANSWER_US))
        return (Open(), Send(Connect(self._addresses)))

    def _dial(self, addresses: tuple[str, ...], at: Micros, *, is_initiator: bool = True) -> tuple[Effect, ...]:
        allowed = tuple(dict.fromkeys(address for address in addresses if self._is_allowed(address)))[:ADDRESSES_MAX]
        if not allowed:
            return self._end("the other side named no address that can be dialled")
        role = role_of(self._kinds[0]) if is_initiator else "client"
        self.state = Dialling(self._until(at, DIAL_US))
        self.is_verdict = "unknown" not in self._kinds
        return (Dial(at, self.state.until, allowed, role),)

    def _end(self, why: str) -> tuple[Effect, ...]:
        if not isinstance(self.state, Ended):
            self.state = Ended(False, why)
        return ()


def attempts(ours: NatKind, theirs: NatKind) -> int:
    """How often to try: never where no port can be foretold on either side, once where it can be on one side only."""
    return ATTEMPTS - (ours, theirs).count("symmetric")


def role_of(kind: NatKind) -> Role:
    """The initiator's role. Its dials merge with the other side's, which is the client, so it is the server.

    Behind a symmetric router nothing can merge, because nobody can foretell its port: a dial of its own that comes
    through reaches the other side's listener, and there it is the client."""
    return "client" if kind == "symmetric" else "server"


@dataclass(slots=True)
class _Failure:
    count: int
    until: Micros
    addresses: frozenset[str]
    is_verdict: bool


class PunchMemory:
    """Which peers a punch failed with, so that it is tried again when it can work and not before."""

    def __init__(self) -> None:
        self._failures: dict[PeerId, _Failure] = {}
        self._answers = Quota(ANSWERS_PER_MINUTE, MINUTE, PEERS_MAX)

    def may_try(self, peer: PeerId, addresses: frozenset[str], now: Micros) -> bool:
        """True for a peer that did not fail lately, and when our own addresses are others than then."""
        failure = self._failures.get(peer)
        return failure is None or failure.until <= now or failure.addresses != addresses

    def may_answer(self, peer: PeerId, now: Micros) -> bool:
        """True while a peer asks seldom enough; counts as an answer."""
        self._answers.forget_paid(now)
        if self._answers.left(peer, now) < 1:
            return False
        self._answers.spend(peer, 1, now)
        return True

    def failed(self, peer: PeerId, addresses: frozenset[str], now: Micros, *, is_verdict: bool = True) -> None:
        """A punch failed: try once more soon, then wait, and twice as long each time."""
        before = self._failures.pop(peer, None)
        is_same = before is not None and before.addresses == addresses and before.is_verdict == is_verdict
        count = before.count if before is not None and is_same else 0
        if is_verdict:
            wait = min(PUNCH_RETRY_US << min(count - 1, 30), PUNCH_RETRY_MAX_US) if count else PUNCH_AGAIN_US
        else:
            wait = min(PUNCH_SOON_US << min(count, 30), PUNCH_RETRY_MAX_US)
        self._failures[peer] = _Failure(count + 1, Micros(now + wait), addresses, is_verdict)
        while len(self._failures) > PEERS_MAX:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, peer: PeerId) -> None:
        """A direct connection came about."""
        self._failures.pop(peer, None)
