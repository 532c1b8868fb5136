"""The four messages of pull on gap; `protocol.catchup` says how they follow each other. Spec: specs/22-gossip.md."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocol.wire import Signed


class Summary(Struct, frozen=True, forbid_unknown_fields=True, tag="summary"):
    """Which statements the sender holds, in short: 64 numbers of 8 bytes, one per bucket (`protocol.catchup`)."""

    buckets: Annotated[bytes, Meta(max_length=512)]


class Listing(Struct, frozen=True, forbid_unknown_fields=True, tag="listing"):
    """The answer where they differ: 8 bytes of key and 8 of sequence for each statement of the differing buckets."""

    entries: Annotated[bytes, Meta(max_length=32_768)]


class Wanted(Struct, frozen=True, forbid_unknown_fields=True, tag="wanted"):
    """The keys of 8 bytes whose statements are new to the sender."""

    keys: Annotated[bytes, Meta(max_length=16_384)]


class Told(Struct, frozen=True, forbid_unknown_fields=True, tag="told"):
    """Those statements, as they were signed."""

    statements: Annotated[tuple[Signed, ...], Meta(min_length=1, max_length=64)]
