"""Public randomness from drand: a number every three seconds that nobody chose and nobody knew before.

A validator mixes the newest into its secret part of a beacon where it can be had; nothing waits for it, and nothing
fails without it. The digest that binds randomness to its signature is always checked. The signature itself (BLS12-381)
is checked where the optional package `py_ecc` is installed: without it a lying server could only take away what the
mixing adds, never what the validator's own secret gives. Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Protocol, cast

import httpx2
import msgspec
import trio
from msgspec import Meta, Struct

from protocol.errors import Refused, Unavailable
from protocol.units import SECOND, Micros

TIMEOUT_S: Final = 5.0
"""Seconds for one server to answer."""

ANSWER_BYTES_MAX: Final = 4_096
"""Bytes of one round as JSON: some 300, and room."""

AGE_ROUNDS_MAX: Final = 4
"""Rounds that the newest may lag behind the clock: a relay's cache, and one lost round."""

REFRESH_S: Final = 9.0
"""Seconds between two looks: three rounds, so that what is known never gets older than AGE_ROUNDS_MAX."""

DOMAIN: Final = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
"""Of RFC 9380, for signatures on G1 (scheme `bls-unchained-g1-rfc9380`)."""

Hex = Annotated[str, Meta(pattern="^[0-9a-f]+$", max_length=192)]


@dataclass(frozen=True, slots=True)
class Network:
    """One drand network: what all its nodes and relays agree on."""

    chain: str
    """Hash of its parameters, in the path of every request."""
    public_key: bytes
    genesis: int
    """Seconds since the Unix epoch at which round 1 came."""
    period: int
    """Seconds."""
    servers: tuple[str, ...]

    def round_at(self, now: Micros) -> int:
        """The newest round at a time; 0 before the first."""
        return max(0, (now // SECOND - self.genesis) // self.period + 1)


QUICKNET: Final = Network(
    "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971",
    bytes.fromhex(
        "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
        "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
    ),
    1_692_803_367,
    3,
    ("https://api.drand.sh", "https://api2.drand.sh", "https://api3.drand.sh", "https://drand.cloudflare.com"),
)
"""The League of Entropy's network with three-second rounds."""


class Round(Struct, frozen=True):
    """One round as servers give it; further fields are let pass."""

    round: Annotated[int, Meta(ge=1, le=2**53)]
    randomness: Hex
    signature: Hex


class _Pairing(Protocol):
    """What is used of `py_ecc`, whose points have no types."""

    def __call__(self, q: object, p: object, final_exponentiate: bool) -> _Element: ...


class _Element(Protocol):
    def __mul__(self, other: _Element) -> _Element: ...


log = logging.getLogger("shoal.drand")

_decoder: Final = msgspec.json.Decoder(Round)


def can_verify() -> bool:
    """Whether signatures can be checked here."""
    return importlib.util.find_spec("py_ecc") is not None


def is_signed(network: Network, found: Round) -> bool:
    """Whether the network signed this round. False for anything malformed. Needs `py_ecc`; a quarter of a second.

    Raises `Unavailable` (`no_bls`) without it."""
    if not can_verify():
        raise Unavailable("BLS signatures cannot be checked here", code="no_bls", fix="Install py_ecc.")
    curve = importlib.import_module("py_ecc.optimized_bls12_381")
    points = importlib.import_module("py_ecc.bls.point_compression")
    hashing = importlib.import_module("py_ecc.bls.hash_to_curve")
    pairing = cast("_Pairing", curve.pairing)
    signature, key = bytes.fromhex(found.signature), network.public_key
    try:
        signed = points.decompress_G1(int.from_bytes(signature, "big"))
        public = points.decompress_G2((int.from_bytes(key[:48], "big"), int.from_bytes(key[48:], "big")))
    except ValueError:
        return False
    if len(signature) != 48 or curve.is_inf(signed) or not curve.is_inf(curve.multiply(signed, curve.curve_order)):
        return False
    message = hashlib.sha256(found.round.to_bytes(8, "big")).digest()
    place = hashing.hash_to_G1(message, DOMAIN, hashlib.sha256)
    both = pairing(curve.G2, signed, final_exponentiate=False) * pairing(
        public, curve.neg(place), final_exponentiate=False
    )
    return bool(curve.final_exponentiate(both) == curve.FQ12.one())


def check(network: Network, found: Round, now: Micros) -> bytes:
    """The 32 bytes of a round. Raises `Refused`: `bad_randomness`, `stale_round`, `future_round`, `bad_signature`."""
    if len(found.signature) % 2 or hashlib.sha256(bytes.fromhex(found.signature)).hexdigest() != found.randomness:
        raise Refused("randomness that is not the digest of its signature", code="bad_randomness")
    newest = network.round_at(now)
    if found.round > newest + 1:
        raise Refused(f"round {found.round}, the clock says {newest}", code="future_round", fix="Set the clock.")
    if found.round < newest - AGE_ROUNDS_MAX:
        raise Refused(f"round {found.round}, the clock says {newest}", code="stale_round", fix="Ask another server.")
    if can_verify() and not is_signed(network, found):
        raise Refused(f"round {found.round} is not signed by this network", code="bad_signature")
    return bytes.fromhex(found.randomness)


class Drand:
    """The newest round that could be had. `refresh` asks one server after the other; `fresh` never waits."""

    def __init__(
        self,
        now: Callable[[], Micros],
        network: Network = QUICKNET,
        servers: Sequence[str] = (),
        client: httpx2.AsyncClient | None = None,
    ) -> None:
        self._now = now
        self._network = network
        self._servers = itertools.cycle(tuple(servers) or network.servers)
        self._count = len(tuple(servers) or network.servers)
        self._client = client or httpx2.AsyncClient(timeout=TIMEOUT_S)
        self._newest: tuple[int, bytes] | None = None

    def fresh(self) -> bytes:
        """32 bytes of a round that is no older than AGE_ROUNDS_MAX; empty when there is none."""
        if self._newest is None or self._newest[0] < self._network.round_at(self._now()) - AGE_ROUNDS_MAX:
            return b""
        return self._newest[1]

    async def refresh(self) -> None:
        """Ask until one server gives a round that holds. Raises `Unavailable` (`no_drand`) when none does."""
        why = ""
        for _ in range(self._count):
            server = next(self._servers)
            try:
                found = await self._ask(server)
                value = await trio.to_thread.run_sync(check, self._network, found, self._now())
                self._newest = (found.round, value)
            except (httpx2.HTTPError, trio.TooSlowError, msgspec.DecodeError, Refused) as error:
                why = f"{server}: {error}"
            else:
                return
        raise Unavailable(f"no server gave a round; the last: {why}", code="no_drand", fix="Nothing depends on it.")

    async def run(self) -> None:
        """Keep the newest round at hand, until cancelled. A server that cannot be reached is no error."""
        try:
            while True:
                try:
                    await self.refresh()
                except Unavailable as error:
                    log.info("%s", error.detail)
                await trio.sleep(REFRESH_S)
        finally:
            with trio.CancelScope(shield=True):
                await self.close()

    async def _ask(self, server: str) -> Round:
        data, size = b"", 0
        with trio.fail_after(TIMEOUT_S):
            async with self._client.stream("GET", f"{server}/{self._network.chain}/public/latest") as answer:
                async for part in answer.aiter_bytes():  # Read to its end: a stream left halfway is not cleaned up.
                    size += len(part)
                    data = (data + part)[: ANSWER_BYTES_MAX + 1]
                answer.raise_for_status()
        if size > ANSWER_BYTES_MAX:
            raise Refused(f"an answer of {size} bytes, at most {ANSWER_BYTES_MAX} are read", code="too_large")
        return _decoder.decode(data)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()
