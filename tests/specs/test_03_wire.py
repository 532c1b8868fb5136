"""specs/03-wire.md against protocol/wire.py and protocol/messages.py: every message is listed."""

from __future__ import annotations

import typing

from hypothesis import given
from hypothesis import strategies as st

import specs
from node import streams
from node.gossip import TOPICS
from protocol import messages, wire

SPEC = specs.load("03-wire")


def test_constants_are_the_code_s() -> None:
    assert SPEC.constants == {
        "MESSAGE_BYTES_MAX": wire.MESSAGE_BYTES_MAX,
        "SIGNING_DOMAIN": wire.SIGNING_DOMAIN.decode(),
        "LENGTH_BYTES": streams.LENGTH_BYTES,
        "OPS_MAX": messages.OPS_MAX,
    }


def test_every_message_is_listed_under_its_tag() -> None:
    listed = {row["message"]: row["type"].strip("`") for row in SPEC.table("messages")}
    assert listed == {kind.__name__: kind.__struct_config__.tag for kind in typing.get_args(messages.Message)}


def test_the_kinds_of_statements_are_listed() -> None:
    listed = {row["kind"].strip("`") for row in SPEC.table("signing")}
    assert set(messages.STATEMENT_KINDS.values()) == set(TOPICS.values())
    assert set(TOPICS.values()) <= listed


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=50))
def test_signing_bytes_are_the_code_s(network: str, kind: str, body: bytes) -> None:
    assert SPEC.functions["signing_bytes"](network, kind, body) == wire.signing_bytes(network, kind, body)


@given(st.binary(max_size=300))
def test_frames_are_the_code_s(body: bytes) -> None:
    assert SPEC.functions["frame"](body) == streams.frame(body)
