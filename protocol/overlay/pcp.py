"""Port Control Protocol (RFC 6887): the bytes of MAP and ANNOUNCE, as a client writes and reads them."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from protocol.overlay.endpoint import canonical_ip

PORT: Final = 5351
"""UDP port of a router that speaks PCP or NAT-PMP (RFC 6887 §19, RFC 6886 §3.1)."""

ANNOUNCE_PORT: Final = 5350
"""UDP port at which hosts hear a router that restarted, on the multicast group 224.0.0.1."""

VERSION: Final = 2
TCP: Final = 6
"""IANA protocol number of the mappings that are asked for."""

NONCE_BYTES: Final = 12
"""The client's secret in each MAP: without it nobody else can answer for the router, or delete the mapping."""

DATAGRAM_MAX: Final = 1_100
"""Octets of the longest PCP message (RFC 6887 §7)."""

ANNOUNCE: Final = 0
MAP: Final = 1
_RESPONSE: Final = 0x80
_REQUEST: Final = struct.Struct("!BBHI16s")
_REPLY: Final = struct.Struct("!BBBBII12s")
_MAP: Final = struct.Struct("!12sB3xHH16s")

RESULTS: Final = (
    "success", "unsupported version", "not authorised", "malformed request", "unsupported opcode", "unsupported option",
    "malformed option", "network failure", "no resources", "unsupported protocol", "quota exceeded",
    "cannot provide external port", "address mismatch", "too many remote peers",
)  # fmt: skip
"""Result codes by number (RFC 6887 §7.4)."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A router's answer to MAP."""

    nonce: bytes
    internal_port: int
    external_ip: str
    external_port: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A router's answer. `lifetime` and `epoch` are seconds; with an error the lifetime says how long it will last."""

    result: int
    lifetime: int
    epoch: int
    mapped: Mapped | None = None
    """None for ANNOUNCE."""


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """The router answered in another version: it speaks NAT-PMP (version 0) or nothing that we know."""

    version: int


def announce_request(client_ip: str) -> bytes:
    """A question that costs nothing and whose answer carries the epoch (RFC 6887 §14.1)."""
    return _REQUEST.pack(VERSION, ANNOUNCE, 0, 0, _packed(client_ip))


def map_request(
    client_ip: str, nonce: bytes, internal_port: int, external_port: int, external_ip: str, lifetime: int
) -> bytes:
    """Ask for, renew or (lifetime 0) delete a TCP mapping. The external endpoint is a wish; 0 and '' wish nothing."""
    head = _REQUEST.pack(VERSION, MAP, 0, lifetime, _packed(client_ip))
    any_ip = "::" if ":" in client_ip else "0.0.0.0"
    return head + _MAP.pack(nonce, TCP, internal_port, external_port, _packed(external_ip or any_ip))


def read_reply(data: bytes) -> Reply | OtherVersion | None:
    """What a datagram says; None when it is no PCP reply to us. Never raises (RFC 6887 §8.3)."""
    if len(data) < 4 or len(data) > DATAGRAM_MAX or not data[1] & _RESPONSE:
        return None
    if data[0] != VERSION:
        return OtherVersion(data[0])
    if len(data) < _REPLY.size or len(data) % 4:
        return None
    _, opcode, _, result, lifetime, epoch, _ = _REPLY.unpack_from(data)
    if opcode == _RESPONSE | ANNOUNCE:
        return Reply(result, lifetime, epoch)
    if opcode != _RESPONSE | MAP or len(data) < _REPLY.size + _MAP.size:
        return None
    nonce, protocol, internal, external, ip = _MAP.unpack_from(data, _REPLY.size)
    text = canonical_ip(str(ipaddress.IPv6Address(ip)))
    if protocol != TCP or text is None:
        return None
    return Reply(result, lifetime, epoch, Mapped(nonce, internal, text, external))


def result_text(result: int) -> str:
    """A result code in words.

    >>> result_text(2), result_text(99)
    ('not authorised', 'error 99')
    """
    return RESULTS[result] if result < len(RESULTS) else f"error {result}"


def has_rebooted(epoch_before: int, at_before: int, epoch: int, at: int) -> bool:
    """Whether a router lost its table between two replies. All in seconds, `at` on our own steady clock.

    RFC 6887 §8.5: both clocks count seconds, so the differences may differ by two seconds and a sixteenth, no more."""
    if epoch + 1 < epoch_before:
        return True
    ours, its = at - at_before, epoch - epoch_before
    return ours + 2 < its - its // 16 or its + 2 < ours - ours // 16


def _packed(ip: str) -> bytes:
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv4Address):
        return b"\0" * 10 + b"\xff\xff" + address.packed
    return address.packed
