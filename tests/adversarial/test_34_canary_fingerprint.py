"""Attack 34: tell canaries from work by size, timing, issuer or id, and compute only those.

A classifier on metadata stays below an AUC of .55 where the rules are kept, over made-up days and over what real
machines issue in a town. Negative control: careless canaries. What does tell them is told too: who carries them.
"""

from __future__ import annotations

import pytest

from protocol.errors import Refused
from tests.verifier.canary_town import Traffic
from tests.verifier.town_traffic import hidden, naive, real
from verifier.indistinguishable import AUC_MAX, check


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_metadata_tells_nothing(seed: int) -> None:
    assert check(real(1200, seed), hidden(1200, seed)) < AUC_MAX


def test_what_a_validator_issues_looks_like_work_but_for_who_carries_it() -> None:
    """Spec 38, "What tells them apart": on a small network the steward does. The documented limit."""
    traffic = Traffic(320, 1)
    assert check(traffic.seen("steward"), traffic.seen("validator")) < AUC_MAX
    town, validator = traffic.town, traffic.town.citizens["validator"].identity.peer
    carriers = {town.ledger.escrows[record.escrow].steward for record in traffic.records["validator"]}
    assert carriers == {validator}
    owners = [{town.ledger.escrows[record.escrow].owner for record in kind} for kind in traffic.records.values()]
    assert not owners[0] & owners[1] and all(len(one) > 1 for one in owners)


@pytest.mark.parametrize("what", ["price", "timing", "key"])
def test_careless_canaries_are_not_issued(what: str) -> None:
    with pytest.raises(Refused) as caught:
        check(real(1200), naive(1200, what))
    assert caught.value.code == "distinguishable"
