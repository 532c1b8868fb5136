"""Attack 34: tell canaries from work by size, timing, issuer or id, and compute only those.

A classifier on metadata stays below an AUC of .55 where the rules are kept. Negative control: careless canaries.
"""

from __future__ import annotations

import pytest

from protocol.errors import Refused
from tests.verifier.town_traffic import hidden, naive, real
from verifier.indistinguishable import AUC_MAX, check


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_metadata_tells_nothing(seed: int) -> None:
    assert check(real(1200, seed), hidden(1200, seed)) < AUC_MAX


@pytest.mark.parametrize("what", ["price", "timing", "key"])
def test_careless_canaries_are_not_issued(what: str) -> None:
    with pytest.raises(Refused) as caught:
        check(real(1200), naive(1200, what))
    assert caught.value.code == "distinguishable"
