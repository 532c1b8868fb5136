"""Auditors and providers that answer some of four judges, with real orderers: one verdict where it matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from msgspec import structs

from protocol import wire
from protocol.completions import Completion, Fetched
from protocol.effects import Effect, Send
from protocol.identity import Identity
from protocol.ledger import operation_decoder
from protocol.messages import AuditCommit, Message, Submit
from protocol.operations import Fence, Verdict, signed_op
from protocol.tallies import UNHEARD
from protocol.units import SECOND, Digest, Micros, PeerId
from protocol.validators import ValidatorSet
from tests.protocol.ledger_world import CHAIN
from tests.verifier.appeals import BAD, GOOD
from tests.verifier.court import ME, ODD, Court, in_audit, to_open
from tests.verifier.quorum import KEYS
from tests.verifier.test_justice import PROVIDER, Opener, Town
from verifier.case import Auditing, Decided
from verifier.concurrence import VERDICTS_MAX, may_join
from verifier.deadlines import ASK_AGAIN

SECONDS: Final = 80
"""Until those whom the first auditor does not answer have heard another, and everybody has sent its verdict again."""


class Split(Town):
    """The first auditor's seals reach itself and so many others; a judge hands in what `words` makes of its verdict."""

    claim_within = 10_000_000
    verdict_within = 200_000_000

    def __init__(self, claimed: Digest, told: int) -> None:
        super().__init__(claimed, GOOD)
        self.told = told
        self.silent: PeerId | None = None
        self.deaf: frozenset[PeerId] = frozenset()
        self.words: Callable[[PeerId, Message], bool] = lambda sender, message: True

    def deliver(self, sender: PeerId, to: PeerId, message: Message) -> None:
        if isinstance(message, AuditCommit):
            if self.silent is None:
                self.silent = sender
                others = [key.peer for key in KEYS if key.peer != sender]
                self.deaf = frozenset(others[self.told :])
            if sender == self.silent and to in self.deaf:
                return
        if self.words(sender, message):
            super().deliver(sender, to, message)

    def joined(self) -> set[PeerId]:
        """Judges who signed another's verdict besides their own."""
        return {peer for peer, said in self.said if said.name == "verdict_joined"}

    def named(self) -> dict[object, set[PeerId]]:
        """Auditor -> the judges who found something with it."""
        found: dict[object, set[PeerId]] = {}
        for peer, said in self.said:
            if said.name == "verdict":
                found.setdefault(said.fields["auditor"], set()).add(peer)
        return found


def verdict_in(message: Message) -> Verdict | None:
    if not isinstance(message, Submit):
        return None
    operation = wire.decode(message.operations[0].body, operation_decoder, KEYS[0].peer)
    return operation if isinstance(operation, Verdict) else None


@pytest.mark.parametrize(("claimed", "finding"), [(GOOD, "accept"), (BAD, "wrong")])
@pytest.mark.parametrize("told", [1, 3], ids=["half of them", "all"])
def test_half_of_the_judges_heard_another(claimed: Digest, finding: str, told: int) -> None:
    town = Split(claimed, told)
    place = town.claim(claimed)
    town.run(SECONDS)
    held = town.held(place)
    assert (held.finding, held.is_audited) == (finding, True)
    is_split = told < 3
    assert (len(town.named()) > 1, bool(town.joined())) == (is_split, is_split)
    assert len({orderer.ledger.root for orderer in town.orderers.values()}) == 1


class Choosy(Opener):
    """A provider that opens its claim to so many judges."""

    def __init__(self, output: Digest, shown: int) -> None:
        super().__init__(output)
        self.shown = [key.peer for key in KEYS[:shown]]

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        return super().receive(sender, message, now) if sender in self.shown else []


@pytest.mark.parametrize(
    ("claimed", "shown", "outcome", "code"),
    [(BAD, 2, "wrong", "hash_differs"), (BAD, 0, "missing", "not_revealed"), (GOOD, 2, "", "")],
    ids=["a cheat opens to half", "to nobody", "and an honest result to half"],
)
def test_who_opens_a_bad_claim_to_half_of_the_judges_is_slashed_all_the_same(
    claimed: Digest, shown: int, outcome: str, code: str
) -> None:
    """And a result that half of the judges cannot have is not paid."""
    town = Split(claimed, 3)
    town.outside[PROVIDER.peer] = Choosy(claimed, shown)
    place = town.claim(claimed)
    town.run(SECONDS)
    lease = town.orderers[KEYS[0].peer].ledger.escrows[place[0]].chunks[0]
    assert (lease.outcome, lease.code, lease.state) == (outcome, code, "free" if outcome else "claimed")
    assert len(town.joined()) == (2 if outcome == "wrong" else 0)


def test_nobody_joins_what_speaks_against_its_own_finding() -> None:
    """Two judges of four who say that a good result is wrong find no company: the claim stays open."""
    town, liars = Split(GOOD, 3), [key.peer for key in KEYS[2:]]
    town.words = lambda sender, message: verdict_in(message) is None or sender not in liars
    place = town.claim(GOOD)
    town.run(8)
    lie = Verdict(*place, "wrong", True, KEYS[1].peer, GOOD, BAD, "hash_differs")
    for _ in range(4):
        for key in KEYS[2:]:
            for other in KEYS:
                town.give(other.peer, Submit((signed_op(CHAIN, lie, key),)))
        town.run(8)
    assert town.orderers[KEYS[0].peer].ledger.escrows[place[0]].chunks[0].state == "claimed"
    assert not town.joined()


# ── one judge, and what it hears of others ───────────────────────────────────────────────────────────────────────────
OTHERS: Final = tuple(Identity(bytes([80 + number]) * 32) for number in range(3))
AUDITOR, ANOTHER, STRANGE = (Identity(bytes([90 + number]) * 32) for number in range(3))


def decided(repeats: int = 1, audited: Digest = GOOD) -> Court:
    """One of four judges has found a claim of GOOD right with ME, and found no company so far."""
    court = in_audit()
    court.state.validators = ValidatorSet(CHAIN, [(key.peer, 1) for key in (ME, *OTHERS)])
    to_open(court, audited)
    court.open(audited)
    for _ in range(repeats):
        court.wait(ASK_AGAIN)
    return court


def other(court: Court, **changes: object) -> Verdict:
    """What this judge found, with another auditor."""
    return structs.replace(mine(court), **({"auditor": ANOTHER.peer} | changes))


def mine(court: Court) -> Verdict:
    assert isinstance(court.case.state, Decided)
    found = verdict_in(Submit((court.case.state.verdict,)))
    assert found is not None
    return found


def hear(court: Court, verdict: Verdict, *signers: Identity, sender: Identity = OTHERS[0]) -> list[Verdict]:
    """What it signs and sends on hearing the verdict."""
    court.hear(sender, Submit((signed_op(CHAIN, verdict, *signers),)))
    return [found for _, message in court.sent(Submit) if (found := verdict_in(message)) is not None][:1]


def test_more_than_a_third_carry_a_verdict_along() -> None:
    court = decided()
    theirs = other(court, faulted=(STRANGE.peer,), agreed=(AUDITOR.peer,), evidence=BAD, score=990_000)
    assert hear(court, theirs, OTHERS[0]) == []
    assert hear(court, theirs, OTHERS[0]) == []
    assert hear(court, theirs, OTHERS[1]) == [theirs]
    assert hear(court, theirs, OTHERS[2]) == []
    said = court.wait(ASK_AGAIN)
    (again, *_) = [effect.message for effect in said if isinstance(effect, Send)]
    assert isinstance(again, Submit)
    assert [wire.decode(one.body, operation_decoder, ME.peer) for one in again.operations] == [mine(court), theirs]
    assert {item.signer for one in again.operations for item in one.signatures} == {ME.peer}


def test_signatures_count_whoever_brings_them_and_only_those_of_judges() -> None:
    court = decided()
    theirs = other(court)
    assert hear(court, theirs, STRANGE, ANOTHER, sender=STRANGE) == []
    forged = signed_op(CHAIN, theirs, OTHERS[1])
    false = structs.replace(forged, signatures=(structs.replace(forged.signatures[0], signer=OTHERS[2].peer),))
    court.hear(OTHERS[2], Submit((false,)))
    assert court.sent(Submit) == []
    assert hear(court, theirs, OTHERS[0], OTHERS[1], sender=STRANGE) == [theirs]


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "wrong", "code": "hash_differs"},
        {"output": BAD},
        {"is_audited": False, "code": "audit_failed"},
        {"is_audited": False, "code": "not_sampled"},
        {"code": "units_equal"},
        {"blamed": 1},
        {"outcome": "missing", "code": "unconfirmed"},
    ],
)
def test_another_finding_is_not_joined(changes: dict[str, object]) -> None:
    court = decided()
    assert hear(court, other(court, **changes), *OTHERS) == []
    assert hear(court, other(court), *OTHERS) == [other(court)]


NOTHING: Final = Verdict(bytes(32), 0, 1, "missing", False, ME.peer, bytes(32), BAD, "not_revealed")
FRAUD: Final = Verdict(bytes(32), 0, 1, "fraud", True, ANOTHER.peer, GOOD, ODD, "unit_differs", faulted=(ME.peer,))
WITHHELD: Final = structs.replace(NOTHING, outcome="withheld", code="withheld")
SEVERE: Final = structs.replace(NOTHING, outcome="severe", code="bad_path")
GONE: Final = structs.replace(NOTHING, output=GOOD, code="output_unavailable")
OTHER_SEAL: Final = structs.replace(NOTHING, outcome="wrong", output=BAD, code="seal_mismatch")
GIVEN: Final = structs.replace(FRAUD, outcome="accept", code="hash_equal")
HEIR: Final = structs.replace(FRAUD, blamed=1)


@pytest.mark.parametrize("mine", [NOTHING, WITHHELD, SEVERE, GONE, OTHER_SEAL])
def test_who_was_shown_nothing_joins_what_is_proven_to_others_and_never_that_they_accept(mine: Verdict) -> None:
    assert may_join(mine, FRAUD) and may_join(mine, HEIR)
    assert not may_join(FRAUD, mine) and not may_join(mine, GIVEN) and not may_join(GIVEN, mine)


def test_of_two_who_were_shown_different_things_one_joins_the_other() -> None:
    every = (NOTHING, OTHER_SEAL, WITHHELD, SEVERE)
    assert [[may_join(one, other) for other in every] for one in every] == [
        [at <= other for other in range(len(every))] for at in range(len(every))
    ]


def test_who_could_not_see_whose_unit_it_was_joins_who_could() -> None:
    own = structs.replace(FRAUD, auditor=AUDITOR.peer)
    assert may_join(own, HEIR) and not may_join(HEIR, own)
    assert not may_join(HEIR, structs.replace(HEIR, blamed=2))


@pytest.mark.parametrize("code", ["inputs_missing", "unconfirmed", "no_trace", "output_too_large"])
def test_what_all_judges_see_alike_or_may_not_say_joins_nothing(code: str) -> None:
    assert not may_join(structs.replace(NOTHING, code=code), FRAUD)


def test_who_heard_nobody_takes_over_that_somebody_was_and_not_the_other_way_round() -> None:
    court = Court(auditors=(AUDITOR,))
    court.claim()
    court.know_spec()
    court.state.validators = ValidatorSet(CHAIN, [(key.peer, 1) for key in (ME, *OTHERS)])
    while isinstance(court.case.state, Auditing):
        court.wait(SECOND)
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))
    assert mine(court).code in UNHEARD
    court.wait(ASK_AGAIN)
    said = mine(court)
    heard = structs.replace(said, is_audited=True, code="hash_equal", auditor=AUDITOR.peer)
    assert hear(court, structs.replace(said, code="not_sampled"), *OTHERS) == []
    assert hear(court, structs.replace(heard, outcome="wrong"), *OTHERS) == []
    assert hear(court, heard, *OTHERS) == [heard]
    (another,) = UNHEARD - {said.code, "no_auditor"}
    late = structs.replace(said, code=another)
    assert hear(court, late, *OTHERS) == [late]


def test_a_verdict_that_went_out_once_may_just_not_be_ordered_yet() -> None:
    court = decided(repeats=0)
    theirs = other(court)
    assert hear(court, theirs, *OTHERS) == []
    court.wait(ASK_AGAIN)
    assert hear(court, theirs, *OTHERS) == [theirs]


def test_who_signs_everything_is_counted_for_some_of_it() -> None:
    court = decided()
    noise = [other(court, evidence=bytes([number]) * 32) for number in range(2 * VERDICTS_MAX)]
    for one in noise:
        assert hear(court, one, OTHERS[0]) == []
    assert len(court.case.others) == VERDICTS_MAX
    assert hear(court, noise[0], OTHERS[1]) == [noise[0]]
    assert hear(court, noise[-1], OTHERS[1], OTHERS[2]) == [noise[-1]]


def test_whatever_else_is_submitted_is_not_its_business() -> None:
    court = decided()
    fence_ = signed_op(CHAIN, Fence(mine(court).escrow, 0, 1), OTHERS[0])
    court.hear(OTHERS[0], Submit((fence_, structs.replace(fence_, body=b"no operation"))))
    assert court.effects == []
    elsewhere = structs.replace(mine(court), chunk=3)
    assert hear(court, elsewhere, *OTHERS) == []
