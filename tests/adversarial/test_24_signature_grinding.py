"""Attack 24: grind signatures: Ed25519 has many valid ones for one message, so that a lottery over them is no lottery.

The attacker here makes its own with nonces of its choice. Nothing that is drawn depends on a signature's bytes.
"""

from __future__ import annotations

import hashlib

from protocol import block, operations, wire
from protocol.identity import Identity, is_signed_by
from protocol.messages import Head, Header
from protocol.operations import Claim, Signature, SignedOp
from tests.verifier.court import CHAIN, ESCROW, GOOD, ME, PROVIDER, SALT, Court
from tests.verifier.unit_court import UNITS, UnitCourt

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE_Y = 4 * pow(5, -1, P) % P

Point = tuple[int, int]


def _x_of(y: int) -> int:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x % 2 == 0 else P - x


def _add(a: Point, b: Point) -> Point:
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P) % P
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def _times(scalar: int) -> bytes:
    point, base = (0, 1), (_x_of(BASE_Y), BASE_Y)
    while scalar:
        if scalar & 1:
            point = _add(point, base)
        base, scalar = _add(base, base), scalar >> 1
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def ground(identity: Identity, message: bytes, nonce: int) -> bytes:
    """A valid signature with a nonce of the signer's choice, instead of the one that RFC 8032 derives."""
    digest = hashlib.sha512(identity.seed).digest()
    secret = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    commitment = _times(nonce)
    bound = int.from_bytes(hashlib.sha512(commitment + identity.peer + message).digest(), "little") % ORDER
    return commitment + ((nonce + bound * secret) % ORDER).to_bytes(32, "little")


def test_the_attack_is_real_many_signatures_are_valid() -> None:
    message = b"anything"
    made = [ground(PROVIDER, message, nonce) for nonce in (3, 5, 7)]
    assert len(set(made)) == 3
    assert all(is_signed_by(PROVIDER.peer, message, signature) for signature in made)


def claims(court: UnitCourt) -> list[SignedOp]:
    """One claim, signed three times."""
    sealed = operations.seal(PROVIDER.peer, SALT, court.made.output)
    body = wire.encode(Claim(ESCROW, 0, 1, sealed, trace=court.provided.trace.root, units=UNITS))
    data = wire.signing_bytes(CHAIN, "op", body)
    return [SignedOp(body, (Signature(PROVIDER.peer, ground(PROVIDER, data, nonce)),)) for nonce in (3, 5, 7)]


def test_a_claim_has_one_id_and_one_challenge_however_it_is_signed() -> None:
    drawn = set()
    ids = set()
    for number in range(3):
        court = UnitCourt()
        signed = claims(court)[number]
        ids.add(signed.op_id)
        court.begin()
        court.hear(ME, court.receipts(signed))
        court.effects = court.judge.tick(court.now)
        drawn.add(court.case.seed)
    assert len(ids) == len(drawn) == 1


def test_a_certificate_signed_otherwise_makes_no_other_beacon() -> None:
    header = Court().header()
    digest = block.header_hash(header)
    data = wire.signing_bytes(CHAIN, "header", wire.encode(header))
    heads = [Head(header, (Signature(ME.peer, ground(ME, data, nonce)),)) for nonce in (3, 5)]
    assert wire.encode(heads[0]) != wire.encode(heads[1])
    assert {block.header_hash(head.header) for head in heads} == {digest}
    assert isinstance(header, Header)


def test_an_auditors_salt_moves_its_own_seal_only() -> None:
    """It is made of a signature, so an auditor could grind it: that changes what hides its result, and no draw."""
    seals = {operations.seal(ME.peer, hashlib.sha256(bytes([number])).digest(), GOOD) for number in range(3)}
    assert len(seals) == 3
    court = UnitCourt().begin().unfold()
    before = (court.case.seed, court.case.unfolded.indices if court.case.unfolded else ())
    court.replay()
    assert (court.case.seed, court.case.unfolded.indices if court.case.unfolded else ()) == before


def test_the_honest_twin_signs_as_the_standard_says() -> None:
    message = b"anything"
    assert PROVIDER.sign(message) == PROVIDER.sign(message)
    assert is_signed_by(PROVIDER.peer, message, PROVIDER.sign(message))
