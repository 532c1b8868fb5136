"""What two GossipSub routers say to each other, and its bytes: rpc.proto of libp2p's pubsub specification.

Signature policy StrictNoSign: a message has a topic and data and nothing else, for the statements inside are signed
themselves. Whoever sends origin, number, signature or key with one has another policy, and that message is refused.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.gossip.protobuf import (
    Malformed,
    content_of,
    field,
    fields,
    number_field,
    number_of,
    read_varint,
    text_of,
    varint,
)

RPC_BYTES_MAX: Final = 64 << 10
"""Bytes of one RPC: a full answer to an IWANT is split into several."""

ENTRIES_MAX: Final = 5_000
"""Identifiers, topics and subscriptions in one RPC, all together: as many as one peer is asked for in a heartbeat."""

_FOREIGN: Final = frozenset((1, 3, 5, 6))
"""Fields of a message that StrictNoSign forbids: from, seqno, signature, key."""


class Envelope(NamedTuple):
    """One message: on which topic, and what."""

    topic: str
    data: bytes


class Prune(NamedTuple):
    """The sender leaves our mesh. `peers` are others to ask (libp2p ids), `backoff_s` how long not to come back."""

    topic: str
    backoff_s: int = 0
    peers: tuple[bytes, ...] = ()


class Rpc(NamedTuple):
    """One RPC; empty parts are left out of its bytes."""

    subscriptions: tuple[tuple[bool, str], ...] = ()
    """(subscribed or unsubscribed, topic)."""
    messages: tuple[Envelope, ...] = ()
    ihave: tuple[tuple[str, tuple[bytes, ...]], ...] = ()
    """(topic, message ids)."""
    iwant: tuple[bytes, ...] = ()
    graft: tuple[str, ...] = ()
    prune: tuple[Prune, ...] = ()
    idontwant: tuple[bytes, ...] = ()
    refused: int = 0
    """Messages left out of `messages` because they carry what StrictNoSign forbids. Only when received."""


def encode(rpc: Rpc) -> bytes:
    """The bytes of an RPC, without a length in front."""
    parts: list[bytes] = []
    for is_in, topic in rpc.subscriptions:
        parts.append(field(1, number_field(1, int(is_in)) + field(2, topic.encode())))
    for topic, data in rpc.messages:
        parts.append(field(2, field(2, data) + field(4, topic.encode())))
    control = _control(rpc)
    if control:
        parts.append(field(3, control))
    return b"".join(parts)


def frame(rpc: Rpc) -> bytes:
    """The bytes of an RPC as they go on a stream: with a varint length in front."""
    body = encode(rpc)
    return varint(len(body)) + body


def _control(rpc: Rpc) -> bytes:
    parts: list[bytes] = []
    for topic, ids in rpc.ihave:
        parts.append(field(1, field(1, topic.encode()) + b"".join([field(2, one) for one in ids])))
    if rpc.iwant:
        parts.append(field(2, b"".join([field(1, one) for one in rpc.iwant])))
    parts += [field(3, field(1, topic.encode())) for topic in rpc.graft]
    for prune in rpc.prune:
        peers = b"".join([field(2, field(1, peer)) for peer in prune.peers])
        backoff = number_field(3, prune.backoff_s) if prune.backoff_s else b""
        parts.append(field(4, field(1, prune.topic.encode()) + peers + backoff))
    if rpc.idontwant:
        parts.append(field(5, b"".join([field(1, one) for one in rpc.idontwant])))
    return b"".join(parts)


def decode(data: bytes) -> Rpc:
    """An RPC from its bytes. `Malformed` for anything else, for more than `RPC_BYTES_MAX` and for too many entries."""
    if len(data) > RPC_BYTES_MAX:
        raise Malformed(f"an RPC of {len(data)} bytes, {RPC_BYTES_MAX} are allowed")
    subscriptions: list[tuple[bool, str]] = []
    messages: list[Envelope] = []
    control = _Control()
    refused = 0
    for number, kind, _, content in fields(data):
        if number == 2:
            envelope = _message(content_of(kind, content))
            if envelope is None:
                refused += 1
            else:
                messages.append(envelope)
        elif number == 3:
            control.read(content_of(kind, content))
        elif number == 1:
            subscriptions.append(_subscription(content_of(kind, content)))
    if len(subscriptions) + len(messages) + refused + control.entries > ENTRIES_MAX:
        raise Malformed(f"an RPC of more than {ENTRIES_MAX} entries")
    if not control.entries:
        return Rpc(tuple(subscriptions), tuple(messages), refused=refused)
    return Rpc(
        tuple(subscriptions),
        tuple(messages),
        tuple(control.ihave),
        tuple(control.iwant),
        tuple(control.graft),
        tuple(control.prune),
        tuple(control.idontwant),
        refused,
    )


def _message(data: bytes) -> Envelope | None:
    """None when it carries a field that StrictNoSign forbids."""
    topic, body, is_plain = "", b"", True
    for number, kind, _, content in fields(data):
        if number == 2:
            body = content_of(kind, content)
        elif number == 4:
            topic = text_of(kind, content)
        elif number in _FOREIGN:
            is_plain = False
    return Envelope(topic, body) if is_plain else None


def _subscription(data: bytes) -> tuple[bool, str]:
    is_in, topic = False, ""
    for number, kind, value, content in fields(data):
        if number == 1:
            is_in = bool(number_of(kind, value))
        elif number == 2:
            topic = text_of(kind, content)
    return is_in, topic


class _Control:
    """The control part while it is read."""

    def __init__(self) -> None:
        self.entries = 0
        self.ihave: list[tuple[str, tuple[bytes, ...]]] = []
        self.iwant: list[bytes] = []
        self.graft: list[str] = []
        self.prune: list[Prune] = []
        self.idontwant: list[bytes] = []

    def read(self, data: bytes) -> None:
        """One control message; several add up."""
        for number, kind, _, content in fields(data):
            if number not in (1, 2, 3, 4, 5):
                continue
            body = content_of(kind, content)
            self.entries += 1
            if number == 1:
                self._ihave(body)
            elif number == 3:
                self.graft.append(_topic(body))
            elif number == 4:
                self._prune(body)
            else:
                ids = [content_of(kind, content) for number, kind, _, content in fields(body) if number == 1]
                self.entries += len(ids)
                (self.iwant if number == 2 else self.idontwant).extend(ids)

    def _ihave(self, data: bytes) -> None:
        topic, ids = "", list[bytes]()
        for number, kind, _, content in fields(data):
            if number == 1:
                topic = text_of(kind, content)
            elif number == 2:
                ids.append(content_of(kind, content))
        self.entries += len(ids)
        self.ihave.append((topic, tuple(ids)))

    def _prune(self, data: bytes) -> None:
        topic, backoff, peers = "", 0, list[bytes]()
        for number, kind, value, content in fields(data):
            if number == 1:
                topic = text_of(kind, content)
            elif number == 2:
                peers += [content_of(k, c) for n, k, _, c in fields(content_of(kind, content)) if n == 1]
            elif number == 3:
                backoff = number_of(kind, value)
        self.entries += len(peers)
        self.prune.append(Prune(topic, backoff, tuple(peers)))


def _topic(data: bytes) -> str:
    topics = [text_of(kind, content) for number, kind, _, content in fields(data) if number == 1]
    return topics[-1] if topics else ""


class FrameCutter:
    """Cuts a stream of bytes into the bodies of frames. Holds at most one unfinished frame."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The frames that this piece completes. `Malformed` as soon as one is announced too long."""
        buffer = self._buffer
        buffer += piece
        found: list[bytes] = []
        at, end = 0, len(buffer)
        while at < end:
            try:
                size, start = read_varint(buffer, at)
            except IndexError:
                break  # The length itself is not complete.
            if size > RPC_BYTES_MAX:
                raise Malformed(f"a frame of {size} bytes, {RPC_BYTES_MAX} are allowed")
            if start + size > end:
                break
            found.append(bytes(buffer[start : start + size]))
            at = start + size
        if at:
            del buffer[:at]
        return found
