"""The town: real machines on virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.units import SECOND
from tests.protocol.town import START, Town


@pytest.fixture
def make_town() -> Callable[..., Town]:
    """`make_town(providers=3)`: offers are out, the ledger runs."""

    def make(providers: int = 3, seed: int = 1, auditors: int = 0) -> Town:
        town = Town(providers, seed, auditors)
        town.run(lambda: town.now > START + 5 * SECOND, 30)
        return town

    return make
