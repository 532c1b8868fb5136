"""What a peer signs after it tried to dial us, and how anybody judges a handful of such words.

A verdict convinces third parties: it names its subject, the address, the outcome, the time and the asker's nonce, under
the witness's own key. Spec: specs/21-reach.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from protocol import wire
from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.overlay.endpoint import TEXT_MAX, endpoint
from protocol.units import MINUTE, Micros, PeerId

KIND: Final = "reach"
"""What a verdict is signed as, and the name of the question."""

ADDRESSES_MAX: Final = 4
"""Addresses of one question: the mapped one, the observed one, and both again for IPv6."""

NONCE_BYTES: Final = 16
"""A verdict answers one question only: old ones cannot be sold again."""

FRESH: Final = Micros(30 * MINUTE)
"""Microseconds for which a verdict says something: three rounds, so that one that failed changes nothing."""

AHEAD_MAX: Final = Micros(5 * MINUTE)
"""Microseconds by which a witness's clock may be ahead of the reader's."""

Outcome = Literal["reachable", "refused", "silent", "other_key", "no_handshake"]
"""refused: the host says no. silent: nothing came back. other_key: somebody else answers there. no_handshake: something
answers that speaks no Noise."""

_Text = Annotated[str, Meta(max_length=TEXT_MAX)]
_Peer = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


class DialBack(Struct, frozen=True, forbid_unknown_fields=True, tag="dial_back"):
    """Please dial me: at these addresses, as far as they are where I speak from."""

    nonce: _Nonce
    addresses: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=ADDRESSES_MAX)]


class Verdict(Struct, frozen=True, forbid_unknown_fields=True, tag="verdict"):
    """The body of a signed statement of kind `reach`."""

    subject: _Peer
    address: _Text
    outcome: Outcome
    nonce: _Nonce
    issued: Annotated[int, Meta(ge=0, le=2**62)]

    @property
    def is_reachable(self) -> bool:
        """Whether the subject itself answered, with its own key."""
        return self.outcome == "reachable"


class DialledBack(Struct, frozen=True, forbid_unknown_fields=True, tag="dialled_back"):
    """The answer. Addresses that were not dialled have no verdict."""

    verdicts: Annotated[tuple[wire.Signed, ...], Meta(max_length=ADDRESSES_MAX)]
    seen: _Text
    """Where the asker's connection comes from, as the witness sees it."""
    elsewhere: Annotated[tuple[_Text, ...], Meta(max_length=ADDRESSES_MAX)] = ()
    """Other places from which somebody with the asker's key is connected to the witness right now."""


dial_back_decoder: Final = wire.decoder(DialBack)
dialled_back_decoder: Final = wire.decoder(DialledBack)
verdict_decoder: Final = wire.decoder(Verdict)


@dataclass(frozen=True, slots=True)
class Tally:
    """Who said what about one address of a subject. A witness counts once."""

    address: str
    said_yes: tuple[PeerId, ...]
    said_no: tuple[PeerId, ...]


def sign_verdict(identity: Identity, network: str, verdict: Verdict) -> wire.Signed:
    """The witness's word."""
    return wire.sign(identity, network, KIND, verdict)


def open_verdict(statement: wire.Signed, network: str, sender: PeerId) -> Verdict:
    """The verdict in a statement. RemoteViolation of the sender for a bad signature, nonsense, or praise of oneself."""
    verdict = wire.open_signed(statement, network, KIND, verdict_decoder, sender)
    if endpoint(verdict.address) is None:
        raise RemoteViolation(sender, f"a verdict about {verdict.address!r}, no address", code="malformed")
    if verdict.subject == statement.signer:
        raise RemoteViolation(sender, "a verdict about its own signer", code="self_verdict")
    return verdict


def judge(
    subject: PeerId, statements: Iterable[wire.Signed], network: str, now: Micros, sender: PeerId
) -> tuple[Tally, ...]:
    """What fresh statements say of a subject, per address, most yes first; for whoever is shown them by `sender`.

    Statements about others, old ones and those from the future are left out; of one witness the newest counts."""
    newest: dict[tuple[str, PeerId], Verdict] = {}
    for statement in statements:
        verdict = open_verdict(statement, network, sender)
        if verdict.subject != subject or not now - FRESH <= verdict.issued <= now + AHEAD_MAX:
            continue
        key = (verdict.address, PeerId(statement.signer))
        if key not in newest or newest[key].issued < verdict.issued:
            newest[key] = verdict
    tallies = []
    for address in dict.fromkeys(address for address, _ in newest):
        words = [(signer, verdict) for (about, signer), verdict in newest.items() if about == address]
        yes = tuple(signer for signer, verdict in words if verdict.is_reachable)
        tallies.append(Tally(address, yes, tuple(signer for signer, verdict in words if not verdict.is_reachable)))
    return tuple(sorted(tallies, key=lambda tally: (-len(tally.said_yes), tally.address)))
