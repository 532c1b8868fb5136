"""The town: real machines on virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol.town import Town, open_town


@pytest.fixture
def make_town() -> Callable[..., Town]:
    """`make_town(providers=3)`: offers are out, the ledger runs."""
    return open_town
