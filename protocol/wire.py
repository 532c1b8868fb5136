"""Bytes on the wire: one encoder, strict decoders, signed statements. Spec: specs/03-wire.md.

Decoding is strict twice over: msgspec checks types and bounds, and the value must encode to the very bytes received,
which rules out duplicate keys, wide integers and trailing data. Bytes are verified as sent, never as re-encoded.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from blake3 import blake3
from msgspec import Meta, Struct

from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity, is_signed_by
from protocol.units import Digest, PeerId

MESSAGE_BYTES_MAX: Final = 65_536
"""One control message, 64 KiB (architecture §6); larger things travel as blobs."""

SIGNING_DOMAIN: Final = b"shoal/1"
"""Prefix of everything signed, so that a signature can never be taken for one of another protocol."""

T = TypeVar("T")
_encoder: Final = msgspec.msgpack.Encoder()


class Signed(Struct, frozen=True, forbid_unknown_fields=True, tag="signed"):
    """Somebody's words: the body's bytes exactly as they were signed."""

    signer: Annotated[bytes, Meta(min_length=32, max_length=32)]
    body: Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


def encode(value: object) -> bytes:
    """The one encoding of a value in MessagePack."""
    return _encoder.encode(value)


def decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """A reusable strict decoder; use it through `decode`."""
    return msgspec.msgpack.Decoder(kind)


def decode(data: bytes, using: msgspec.msgpack.Decoder[T], sender: PeerId, size_max: int = MESSAGE_BYTES_MAX) -> T:
    """The value in `data`, or `RemoteViolation` with the sender's name on it.

    >>> decode(encode(5), decoder(int), PeerId(bytes(32)))
    5
    """
    if len(data) > size_max:
        raise RemoteViolation(
            sender, f"message of {len(data)} bytes, at most {size_max} are allowed", code="over_limit"
        )
    try:
        value = using.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteViolation(sender, f"malformed message: {error}", code="malformed") from error
    if _encoder.encode(value) != data:
        raise RemoteViolation(sender, "message is not in its one canonical encoding", code="not_canonical")
    return value


def digest(data: bytes) -> Digest:
    """BLAKE3: the name of a blob."""
    return Digest(blake3(data).digest())


def signing_bytes(network: str, kind: str, body: bytes) -> bytes:
    """What is signed: domain, network and kind, each ended by a zero byte, then the body."""
    return b"\0".join((SIGNING_DOMAIN, network.encode(), kind.encode(), body))


def sign(identity: Identity, network: str, kind: str, value: object) -> Signed:
    """Encode a value and sign its bytes as `kind` (`offer`, `notice`, `bid`, `fence` …)."""
    body = encode(value)
    return Signed(identity.peer, body, identity.sign(signing_bytes(network, kind, body)))


def open_signed(statement: Signed, network: str, kind: str, using: msgspec.msgpack.Decoder[T], sender: PeerId) -> T:
    """The value inside a statement, after checking the signature; the *sender* answers for passing on a bad one."""
    if not is_signed_by(PeerId(statement.signer), signing_bytes(network, kind, statement.body), statement.signature):
        raise RemoteViolation(sender, f"bad signature on a {kind}", code="bad_signature")
    return decode(statement.body, using, sender)


def text_id(prefix: str, raw: bytes) -> str:
    """An id as people see it: `job_` and lower-case hex."""
    return f"{prefix}_{raw.hex()}"


def raw_id(prefix: str, text: str, size: int) -> bytes:
    """The inverse of `text_id`; refuses another prefix, length or alphabet."""
    head, _, tail = text.partition("_")
    try:
        raw = bytes.fromhex(tail) if tail == tail.lower() else b""
    except ValueError:
        raw = b""
    if head != prefix or len(raw) != size:
        raise Refused(
            f"{text[:80]!r} is no {prefix} id",
            code="bad_id",
            fix=f"It looks like {prefix}_ and {size * 2} hexadecimal digits.",
        )
    return raw
