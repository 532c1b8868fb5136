"""specs/02-identity.md against protocol/identity.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import identity
from protocol.units import PeerId

SPEC = specs.load("02-identity")


def test_constants_are_the_code_s() -> None:
    assert SPEC.constants["SEED_BYTES"] == identity.SEED_BYTES
    assert SPEC.constants["SIGNATURE_BYTES"] == identity.SIGNATURE_BYTES
    assert str(SPEC.constants["LIBP2P_PREFIX"]).zfill(12) == identity._LIBP2P_PREFIX.hex()


@given(st.binary(min_size=32, max_size=32))
def test_the_text_form_is_the_code_s(key: bytes) -> None:
    assert SPEC.functions["peer_text"](key) == identity.peer_text(PeerId(key))
