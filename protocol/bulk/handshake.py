"""The handshake of a data connection: two peers, one ticket, fresh keys. Spec: specs/19-bulk.md.

    fetcher                      holder
    Open    ─────────────────▶            ticket id, ephemeral, ciphers
            ◀─────────────────  Accept    ephemeral, cipher, signature, proof of the keys
    Finish  ─────────────────▶            signature, proof of the keys

Sans-IO: messages go in, `Say` and `Met` come out. What does not verify may come from anyone on the path, so it is
Unavailable (`bad_handshake`) and no peer's violation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct, msgpack

from protocol import wire
from protocol.bulk.records import KEY_BYTES, CipherName
from protocol.bulk.tickets import Ticket, TicketOffice, ticket_id
from protocol.errors import LocalError, RemoteViolation, Unavailable
from protocol.identity import Identity, is_signed_by
from protocol.jobspec import Bytes32
from protocol.units import Micros, PeerId

LABEL: Final = b"shoal bulk 1"
"""First in the transcript and in the key schedule; another revision has another one."""

HANDSHAKE_BYTES_MAX: Final = 512
"""One message of the handshake has about 200 bytes."""

Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
T = TypeVar("T")


class Open(Struct, frozen=True, forbid_unknown_fields=True, tag="open"):
    """The fetcher's first word."""

    ticket: Bytes16
    ephemeral: Bytes32
    ciphers: Annotated[tuple[CipherName, ...], Meta(min_length=1, max_length=2)]
    """What it can do, the preferred one first."""


class Accept(Struct, frozen=True, forbid_unknown_fields=True, tag="accept"):
    """The holder's answer."""

    ephemeral: Bytes32
    cipher: CipherName
    signature: Bytes64
    """Over the transcript, as `bulk-accept`."""
    proof: Bytes32


class Finish(Struct, frozen=True, forbid_unknown_fields=True, tag="finish"):
    """The fetcher's last word; records follow at once."""

    signature: Bytes64
    """Over the transcript with the answer in it, as `bulk-finish`."""
    proof: Bytes32


@dataclass(frozen=True, slots=True)
class Say:
    """Effect: send this message."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Met:
    """Effect: the other side is who it should be, and these are the keys."""

    peer: PeerId
    ticket: Ticket
    cipher: CipherName
    key_out: bytes
    """Seals what we send."""
    key_in: bytes
    """Opens what we receive."""


Effect = Say | Met


@dataclass(frozen=True, slots=True)
class Keys:
    """What both sides derive; each is used for one thing."""

    to_holder: bytes
    to_fetcher: bytes
    proof_holder: bytes
    proof_fetcher: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """Holder: nothing was heard yet. Fetcher: Open is said."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Holder: Accept is said; the ticket is still open for whoever can really finish."""

    ticket: Ticket
    cipher: CipherName
    keys: Keys
    sealed: bytes
    """The transcript that Finish has to sign."""


@dataclass(frozen=True, slots=True)
class Over:
    """Met, or failed: nothing more is heard."""


_open: Final = wire.decoder(Open)
_accept: Final = wire.decoder(Accept)
_finish: Final = wire.decoder(Finish)


class Fetcher:
    """The side that connects. Takes a fresh ephemeral secret of 32 bytes."""

    def __init__(
        self,
        network: str,
        identity: Identity,
        holder: PeerId,
        ticket_secret: bytes,
        ephemeral: bytes,
        ciphers: tuple[CipherName, ...],
    ) -> None:
        self._network = network
        self._identity = identity
        self._ticket = Ticket(ticket_secret, identity.peer, frozenset(), Micros(0))
        self._holder = holder
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self._ciphers = ciphers
        own = self._ephemeral.public_key().public_bytes_raw()
        self._opening = wire.encode(Open(ticket_id(ticket_secret), own, ciphers))
        self.state: Waiting | Over = Waiting()

    def open(self) -> Say:
        """The first message."""
        return Say(self._opening)

    def receive(self, message: bytes) -> list[Effect]:
        """The holder's answer: Finish and the keys, or Unavailable."""
        match self.state:
            case Over():
                raise Unavailable("the handshake is over", code="bad_handshake")
            case Waiting():
                self.state = Over()
                return self._check(_decode(message, _accept))

    def _check(self, answer: Accept) -> list[Effect]:
        if answer.cipher not in self._ciphers:
            raise Unavailable(f"{answer.cipher} was not offered", code="bad_handshake")
        parties = (self._identity.peer, self._holder)
        said = transcript(self._network, parties, self._opening, answer.ephemeral, answer.cipher)
        keys = derive(self._ephemeral, answer.ephemeral, self._ticket.secret, said)
        _verify(self._network, "bulk-accept", self._holder, said, answer.signature)
        _prove(keys.proof_holder, said, answer.proof)
        sealed = _seal(said, answer)
        signature = self._identity.sign(wire.signing_bytes(self._network, "bulk-finish", sealed))
        finish = Finish(signature, proof(keys.proof_fetcher, sealed))
        met = Met(self._holder, self._ticket, answer.cipher, keys.to_holder, keys.to_fetcher)
        return [Say(wire.encode(finish)), met]


class Holder:
    """The side that is connected to. Takes a fresh ephemeral secret of 32 bytes; `has_aes`: AES is fast here."""

    def __init__(self, network: str, identity: Identity, office: TicketOffice, ephemeral: bytes, has_aes: bool) -> None:
        self._network = network
        self._identity = identity
        self._office = office
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self._has_aes = has_aes
        self.state: Waiting | Answered | Over = Waiting()

    def receive(self, message: bytes, now: Micros) -> list[Effect]:
        """Open gives Accept, Finish gives the keys and uses the ticket up; anything else is Unavailable."""
        state, self.state = self.state, Over()
        match state:
            case Waiting():
                return self._answer(message, _decode(message, _open), now)
            case Answered():
                return self._finish(_decode(message, _finish), state, now)
            case Over():
                raise Unavailable("the handshake is over", code="bad_handshake")

    def _answer(self, message: bytes, opening: Open, now: Micros) -> list[Effect]:
        ticket = self._office.find(opening.ticket, now)
        cipher = choose(opening.ciphers, self._has_aes)
        own = self._ephemeral.public_key().public_bytes_raw()
        parties = (ticket.peer, self._identity.peer)
        said = transcript(self._network, parties, message, own, cipher)
        keys = derive(self._ephemeral, opening.ephemeral, ticket.secret, said)
        signature = self._identity.sign(wire.signing_bytes(self._network, "bulk-accept", said))
        answer = Accept(own, cipher, signature, proof(keys.proof_holder, said))
        self.state = Answered(ticket, cipher, keys, _seal(said, answer))
        return [Say(wire.encode(answer))]

    def _finish(self, finish: Finish, state: Answered, now: Micros) -> list[Effect]:
        _verify(self._network, "bulk-finish", state.ticket.peer, state.sealed, finish.signature)
        _prove(state.keys.proof_fetcher, state.sealed, finish.proof)
        ticket = self._office.redeem(state.ticket.id, now)
        return [Met(ticket.peer, ticket, state.cipher, state.keys.to_fetcher, state.keys.to_holder)]


def offers(has_aes: bool) -> tuple[CipherName, ...]:
    """What a peer offers: AES first only where the processor has it."""
    return ("aes-128-gcm", "chacha20-poly1305") if has_aes else ("chacha20-poly1305", "aes-128-gcm")


def choose(offered: tuple[CipherName, ...], has_aes: bool) -> CipherName:
    """AES where both sides are fast at it, else ChaCha20 if it was offered at all."""
    if offered[0] == "aes-128-gcm" and (has_aes or "chacha20-poly1305" not in offered):
        return "aes-128-gcm"
    return "chacha20-poly1305" if "chacha20-poly1305" in offered else offered[0]


def transcript(
    network: str, parties: tuple[PeerId, PeerId], opening: bytes, ephemeral: bytes, cipher: CipherName
) -> bytes:
    """32 bytes that stand for everything agreed on: label, network, (fetcher, holder), Open, ephemeral, cipher."""
    fields = (LABEL, network.encode(), *parties, opening, ephemeral, cipher.encode())
    return blake3(b"".join(len(field).to_bytes(4, "big") + field for field in fields)).digest()


def derive(own: X25519PrivateKey, other: bytes, ticket_secret: bytes, said: bytes) -> Keys:
    """All keys from both ephemerals, the ticket's secret and the transcript. Unavailable for a point of low order."""
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise Unavailable("the other side's ephemeral key is degenerate", code="bad_handshake") from None
    flat = HKDF(SHA256(), 4 * KEY_BYTES, salt=said, info=LABEL).derive(shared + ticket_secret)
    return Keys(*(flat[start : start + KEY_BYTES] for start in range(0, 4 * KEY_BYTES, KEY_BYTES)))


def proof(key: bytes, said: bytes) -> bytes:
    """Shows that a side has the keys: BLAKE3 of the transcript under a key that does nothing else."""
    return blake3(said, key=key).digest()


def _seal(said: bytes, answer: Accept) -> bytes:
    """The transcript with the holder's answer in it."""
    return blake3(said + answer.signature + answer.proof).digest()


def _decode(message: bytes, using: msgpack.Decoder[T]) -> T:
    try:
        return wire.decode(message, using, PeerId(bytes(32)), HANDSHAKE_BYTES_MAX)
    except RemoteViolation as violation:
        raise Unavailable(violation.rule, code="bad_handshake") from None


def _verify(network: str, kind: str, signer: PeerId, said: bytes, signature: bytes) -> None:
    if not is_signed_by(signer, wire.signing_bytes(network, kind, said), signature):
        raise Unavailable("the signature is not the peer's over this handshake", code="bad_handshake")


def _prove(key: bytes, said: bytes, given: bytes) -> None:
    if not bytes_eq(proof(key, said), given):
        raise Unavailable("the other side does not have the same keys", code="bad_handshake")


def met_of(effects: list[Effect]) -> Met:
    """The keys among the effects of a finished handshake; LocalError when there are none."""
    for effect in effects:
        if isinstance(effect, Met):
            return effect
    raise LocalError("the handshake has not ended", code="handshake_order")
