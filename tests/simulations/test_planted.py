"""A test flips one rule of a real machine, and the swarm finds it within 200 seeds."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Final

import pytest

from protocol import escrow, inheritance, leases_ledger, leasing, provider, provider_inheritance
from protocol.operations import Claim, Fence
from simulations.minimise import minimise
from simulations.scenario import Injection
from simulations.swarm import run_seed
from verifier import orderer, prefixes

SEEDS: Final = range(1, 201)
"""What `make sim` runs by default."""


def flipped(function: Callable[..., object], old: str, new: str) -> FunctionType:
    """The same function with one piece of its source replaced."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {function.__qualname__}"
    scope: dict[str, object] = {}
    exec(compile(source.replace(old, new), "planted", "exec"), inspect.unwrap(function).__globals__, scope)
    made = scope[function.__name__]
    assert isinstance(made, FunctionType)
    return made


def one_watcher_is_enough(patch: pytest.MonkeyPatch) -> str:
    """Steward and ledger take the word of a single watcher for a death."""
    patch.setattr(leasing, "FENCE_VOTES", 1)
    patch.setitem(escrow._HANDLERS, Fence, flipped(leases_ledger.fence, "len(lease.watchers) // 2 + 1", "1"))
    return "epochs"


def old_epochs_may_claim(patch: pytest.MonkeyPatch) -> str:
    """The ledger takes a claim for a lease that has gone to somebody else."""
    patch.setattr(leases_ledger, "find", flipped(leases_ledger.find, "op.epoch < epoch", "False"))
    patch.setitem(
        escrow._HANDLERS,
        Claim,
        flipped(leases_ledger.claim, "lease.provider not in signers", "not signers"),
    )
    return "epochs"


def providers_work_on(patch: pytest.MonkeyPatch) -> str:
    """A provider does not stop what runs for a lease that has ended."""
    works_on = flipped(provider.Provider._drop, 'if lease.phase == "running" else []', "if 0 else []")
    patch.setattr(provider.Provider, "_drop", works_on)
    return "epochs"


def votes_are_forgotten(patch: pytest.MonkeyPatch) -> str:
    """A validator forgets over a restart what it has voted for, and the leader proposes another block."""
    patch.setattr(orderer.Orderer, "__init__", flipped(orderer.Orderer.__init__, "if voted is not None:", "if False:"))
    return "faultless"


def blocks_leave_before_they_are_stored(patch: pytest.MonkeyPatch) -> str:
    """Receipts go out first, the disk comes after."""
    patch.setattr(
        orderer.Orderer,
        "_certified",
        flipped(orderer.Orderer._certified, "return [*effects, *self", "return [*effects[2:], *effects[:2], *self"),
    )
    return "acknowledged"


def promises_stay_open(patch: pytest.MonkeyPatch) -> str:
    """When a lease is lost, what was promised for it is not taken back."""
    patch.setattr(leases_ledger, "free", flipped(leases_ledger.free, "moves.append(VoidPend(pend_id))", "pass"))
    return "ledger"


def nothing_is_sent_again(patch: pytest.MonkeyPatch) -> str:
    """An operation that got lost is lost."""
    patch.setattr("protocol.ledger_client.LedgerClient.tick", lambda self, now: [])
    return "liveness"


def heirs_are_blamed(patch: pytest.MonkeyPatch) -> str:
    """The judge hears whose bad unit it was, and finds against the claimant all the same."""
    changed = flipped(prefixes.Prefixes.opened, "state.entry.epoch if is_proven else 0", "0")
    patch.setattr(prefixes.Prefixes, "opened", changed)
    return "heirs"


def nobody_is_asked(patch: pytest.MonkeyPatch) -> str:
    """The judge forgets that a claim rests on others."""
    patch.setattr(prefixes, "suspect", lambda inherited, units: None)
    return "heirs"


def anybody_may_be_named(patch: pytest.MonkeyPatch) -> str:
    """The ledger takes a claim that rests on a lease that never was, or on a word that its provider did not give."""
    changed = flipped(inheritance.heirloom, "lease.former", "dict.fromkeys(range(1_001), lease.provider)")
    patch.setattr(inheritance, "heirloom", changed)
    return "heirs"


def heirs_are_fined(patch: pytest.MonkeyPatch) -> str:
    """The ledger hears whom the judges blame, and takes it from the claimant."""
    patch.setattr(inheritance, "blamed", lambda lease, op: lease.provider if op.blamed else b"")
    return "heirs"


def heirs_keep_silent(patch: pytest.MonkeyPatch) -> str:
    """A provider that went on claims everything as its own."""
    patch.setattr(provider_inheritance, "of", lambda lease, done: ())
    return "heirs"


BUGS: Final = (
    (one_watcher_is_enough, 2),
    (old_epochs_may_claim, 10),
    (providers_work_on, 14),
    (votes_are_forgotten, 46),
    (blocks_leave_before_they_are_stored, 151),
    (promises_stay_open, 14),
    (nothing_is_sent_again, 14),
    (heirs_are_blamed, 71),
    (nobody_is_asked, 71),
    (anybody_may_be_named, 71),
    (heirs_are_fined, 71),
    (heirs_keep_silent, 54),
)
"""Each with the seed that found it when it was planted first: tried before the others, only to save time."""


@pytest.mark.parametrize(("plant", "first"), BUGS, ids=[plant.__name__ for plant, _ in BUGS])
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], str], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checker = plant(monkeypatch)
    for seed in (first, *SEEDS):
        found = run_seed(seed).violation
        if found is not None:
            assert found.checker == checker, found
            return
    pytest.fail(f"{len(SEEDS)} seeds did not find it")


def test_without_a_bug_these_seeds_find_nothing() -> None:
    assert not [
        found for seed in sorted({first for _, first in BUGS}) if (found := run_seed(seed).violation) is not None
    ]


def test_the_faults_that_show_a_bug_are_minimised(monkeypatch: pytest.MonkeyPatch) -> None:
    checker, seed = votes_are_forgotten(monkeypatch), 46

    def fails(part: Sequence[Injection]) -> bool:
        violation = run_seed(seed, injections=part).violation
        return violation is not None and violation.checker == checker

    whole = run_seed(seed).injections
    least = minimise(fails, whole)
    assert fails(least)
    assert len(least) < len(whole) // 2
    assert any(item.kind == "kill" for item in least), "only a restart can make a validator forget"
