"""Appeals through real orderers and a real ledger: panels, the game, and who lies or is silent."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protocol import wire
from protocol.completions import RunDone
from protocol.effects import Run, Store
from protocol.errors import LocalError
from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import Submit
from protocol.proof import Proof, Trace
from protocol.units import MINUTE, Digest, PeerId
from tests.protocol.ledger_world import RENTER, STAKE
from tests.verifier.appeals import (
    AUDITORS,
    BAD,
    CHALLENGER,
    GOOD,
    ODD,
    PROVIDER,
    TRUTH,
    UNITS,
    Appeals,
    execution,
)
from tests.verifier.quorum import KEYS, NOW
from verifier.court import Court
from verifier.docket import KEY


def court_of(appeals: Appeals, index: int = 0) -> Court:
    court = appeals.quorum.beside[KEYS[index].peer][0]
    assert isinstance(court, Court)
    return court


@pytest.mark.parametrize(
    ("claimed", "verdict", "who", "finding", "code"),
    [
        (GOOD, "wrong", PROVIDER, "accept", "hash_equal"),
        (BAD, "wrong", PROVIDER, "wrong", "hash_differs"),
        (BAD, "accept", RENTER, "wrong", "hash_differs"),
        (GOOD, "accept", RENTER, "accept", "hash_equal"),
        (GOOD, "accept", CHALLENGER, "accept", "hash_equal"),
    ],
)
def test_a_panel_of_three_finds_what_is_true(
    claimed: Digest, verdict: str, who: Identity, finding: str, code: str
) -> None:
    appeals = Appeals(claimed)
    appeals.decided(verdict)
    appeals.appeal(who)
    held = appeals.run()
    assert (held.finding, held.code, held.round, held.appeal) == (finding, code, 1, b"")
    assert appeals.rulings == [(finding, code)], "all courts said the same"
    assert len({peer for peer, _ in appeals.runs}) == 3
    assert not court_of(appeals).docket.trials


def test_a_traced_claim_that_is_wrong_is_fraud() -> None:
    appeals = Appeals(BAD, trace=execution(7))
    appeals.decided("accept")
    appeals.appeal(CHALLENGER)
    assert appeals.run().finding == "fraud"


def test_nobody_sits_twice_and_neither_party_sits() -> None:
    appeals = Appeals(GOOD, lying=frozenset(item.peer for item in AUDITORS[:7]))
    appeals.candidates |= {PROVIDER.peer: 100 * STAKE, RENTER.peer: 100 * STAKE}
    appeals.decided("accept")
    appeals.appeal(RENTER)
    appeals.run()
    first = {peer for peer, _ in appeals.runs}
    held = appeals.held
    appeals.appeal(RENTER if held.finding == "accept" else PROVIDER)
    appeals.run()
    second = {peer for peer, _ in appeals.runs[len(first) :]}
    assert (len(first), len(second)) == (3, 7)
    assert not first & second
    assert not {PROVIDER.peer, RENTER.peer} & (first | second)
    assert appeals.held.round == 2


def test_who_stood_in_for_somebody_does_not_sit_in_the_next_round_either() -> None:
    """The first two of the order are away, and known of by nobody: others sit, and are not asked again."""
    appeals = Appeals(GOOD)
    appeals.decided("accept")
    appeals.appeal(RENTER)
    order = next(iter(court_of(appeals).docket.orders.values()))
    appeals = Appeals(GOOD, silent=frozenset(order[:2]))
    appeals.books = {key.peer: dict.fromkeys(order[:2], "unknown") for key in KEYS}
    appeals.decided("accept")
    appeals.appeal(RENTER)
    assert next(iter(court_of(appeals).docket.orders.values())) == order
    appeals.run(60)
    assert appeals.held.round == 1 and appeals.held.heard == order[:3]
    first = {peer for peer, _ in appeals.runs}
    assert first == set(order[2:5])
    appeals.appeal(RENTER)
    appeals.run(60)
    second = {peer for peer, _ in appeals.runs[len(first) :]}
    assert appeals.held.round == 2 and len(second) == 7 and not first & second


def test_one_of_each_operator() -> None:
    def networks(peer: PeerId) -> frozenset[str]:
        index = next((at for at, item in enumerate(AUDITORS) if item.peer == peer), 99)
        return frozenset({"farm"} if index < 11 else {f"home {index}"})

    appeals = Appeals(GOOD, networks=networks)
    appeals.decided("accept")
    appeals.appeal(RENTER)
    appeals.run()
    drawn = {peer for peer, _ in appeals.runs}
    assert len(drawn) == 3
    assert len({next(iter(networks(peer))) for peer in drawn}) == 3


def test_without_a_majority_the_finding_stands() -> None:
    answers = iter([GOOD, BAD, ODD])
    appeals = Appeals(BAD)
    appeals.decided("accept")
    run = appeals._run

    def differing(peer: PeerId, work: object) -> object:
        done = run(peer, work)  # type: ignore[arg-type]
        return type(done)(done.task, "ok", 0, next(answers), 1, 1.0, "")

    appeals._run = differing  # type: ignore[method-assign, assignment]
    appeals.appeal(RENTER)
    held = appeals.run()
    assert (held.finding, held.code) == ("accept", "no_majority")


@pytest.mark.parametrize("first", ["accept", "wrong"])
@pytest.mark.parametrize(
    ("refusing", "finding", "code"),
    [(0, "accept", "check_passed"), (1, "accept", "check_passed"), (2, "wrong", "check_failed")],
)
def test_a_panel_checks_a_certificate_and_computes_nothing(first: str, refusing: int, finding: str, code: str) -> None:
    """Right results are many: what others would get says nothing about this one."""
    appeals = Appeals(ODD)
    appeals.job = replace(appeals.job, proof=Proof("certificate", check=("true",)))
    appeals.spec = appeals.keep(wire.encode(appeals.job))
    appeals.decided(first)
    answers = iter([False] * refusing + [True] * 3)

    def check(peer: PeerId, run: Run) -> RunDone:
        assert run.result == ODD
        is_right = next(answers)
        return RunDone(run.task, "ok" if is_right else "exit", 0, ODD if is_right else ZERO_DIGEST, 1, 1.0, "")

    appeals._run = check  # type: ignore[method-assign]
    appeals.appeal(RENTER if first == "accept" else PROVIDER)
    held = appeals.run()
    assert (held.finding, held.code) == (finding, code)
    assert len({peer for peer, _ in appeals.runs}) == 3


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"seats": 1}, "no_panel"), ({"numeric": "D3"}, "not_comparable"), ({"claimed": bytes(32)}, "nothing_to_compare")],
)
def test_what_no_panel_can_find_stands(changes: dict[str, object], code: str) -> None:
    appeals = Appeals(**changes)  # type: ignore[arg-type]
    appeals.decided("accept")
    appeals.appeal(RENTER)
    held = appeals.run()
    assert (held.finding, held.code) == ("accept", code)


def test_a_specification_that_nobody_delivers() -> None:
    appeals = Appeals(GOOD)
    appeals.missing.add(appeals.spec)
    appeals.decided("accept")
    appeals.appeal(RENTER)
    held = appeals.run(70)
    assert (held.finding, held.code) == ("accept", "inputs_missing")


def test_a_specification_that_comes_at_the_second_try() -> None:
    appeals = Appeals(BAD)
    appeals.missing.add(appeals.spec)
    appeals.decided("accept")
    appeals.appeal(RENTER)
    appeals.run(3)
    appeals.missing.clear()
    assert appeals.run(20).finding == "wrong"


def test_silent_members_are_not_waited_for_forever() -> None:
    appeals = Appeals(BAD, silent=frozenset(item.peer for item in AUDITORS[2:]), seats=3)
    appeals.decided("accept")
    appeals.appeal(RENTER)
    appeals.run(20)
    assert appeals.held.appeal
    held = appeals.run(6 * 60)
    assert (held.finding, held.code) == ("wrong", "hash_differs"), "two of three are a majority"


def test_over_a_bad_line() -> None:
    appeals = Appeals(BAD)
    appeals.decided("accept")
    appeals.quorum.loss = 0.15
    appeals.appeal(RENTER)
    assert appeals.run(200).finding == "wrong"


def test_a_court_that_was_restarted_sits_again() -> None:
    appeals = Appeals(BAD)
    appeals.decided("accept")
    appeals.appeal(RENTER)
    for key in KEYS[2:]:  # Two that stay down leave no quorum of rulings: the third must come back.
        appeals.quorum.down.add(key.peer)
    appeals.run(10)
    assert appeals.held.appeal
    key = KEYS[2]
    appeals.quorum.start(key)
    disk = appeals.quorum.disks[key.peer]
    assert any(name.startswith(KEY) for name in disk)
    appeals.quorum.put(key.peer, court_of(appeals, 2).restore(disk.items(), appeals.quorum.now))
    assert appeals.run(60).finding == "wrong"


def test_captured_panels_lose_the_game() -> None:
    """A challenger whose friends fill both panels overturns an honest claim twice; the game gives it back."""
    lying = frozenset(item.peer for item in AUDITORS)
    appeals = Appeals(GOOD, trace=TRUTH, lying=lying)
    appeals.decided("accept")
    appeals.appeal(CHALLENGER)
    assert appeals.run().finding == "fraud"
    appeals.appeal(PROVIDER)
    assert (appeals.run().finding, appeals.held.round) == ("fraud", 2)
    appeals.lying = frozenset()
    appeals.candidates = {key.peer: STAKE for key in KEYS}
    appeals.appeal(PROVIDER, TRUTH)
    held = appeals.run()
    assert (held.round, held.finding) == (3, "accept")


@pytest.mark.parametrize("numeric", ["D0", "D2"])
@pytest.mark.parametrize("at", [1, 17, UNITS])
def test_the_game_refutes_what_panels_let_pass(numeric: str, at: int) -> None:
    appeals = Appeals(BAD, numeric, execution(at), frozenset(item.peer for item in AUDITORS))
    appeals.decided("accept")
    for _ in range(2):
        appeals.appeal(CHALLENGER)
        assert appeals.run().finding == "accept"
    appeals.candidates |= {key.peer: STAKE for key in KEYS}
    appeals.appeal(CHALLENGER, TRUTH)
    held = appeals.run(60)
    assert (held.finding, held.code, held.round) == ("fraud", "wrong_step", 3)
    units = [run.units[0].index for _, run in appeals.runs if run.units]
    assert set(units) == {at - 1}
    assert all(run.units[0].aux == bytes(32) for _, run in appeals.runs if run.units), "blind"


def test_an_appeal_that_is_ordered_again_draws_no_other_panel() -> None:
    """With another signature beside it, it is other bytes, and may be in the next block."""
    appeals = Appeals(BAD)
    appeals.decided("accept")
    appeals.appeal(CHALLENGER)
    court = appeals.quorum.beside[KEYS[0].peer][0]
    assert isinstance(court, Court) and appeals.place in court.docket.trials
    drawn = court.docket.seeds[appeals.place], court.docket.orders[appeals.place]
    assert court._enter(appeals.place, appeals.held.appeal, bytes(32)) == []
    assert (court.docket.seeds[appeals.place], court.docket.orders[appeals.place]) == drawn
    held = appeals.run()
    assert (held.finding, held.round) == ("wrong", 1)


def test_an_appeal_waits_while_all_games_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    appeals = Appeals(BAD, trace=execution(9), lying=frozenset(item.peer for item in AUDITORS))
    appeals.decided("accept")
    for _ in range(2):
        appeals.appeal(CHALLENGER)
        assert appeals.run().finding == "accept"
    appeals.candidates |= {key.peer: STAKE for key in KEYS}
    with monkeypatch.context() as patch:
        patch.setattr("verifier.referee.GAMES_MAX", 0)
        appeals.appeal(CHALLENGER, TRUTH)
        assert appeals.run(90).is_appealed, "longer than a specification is waited for"
    held = appeals.run(60)
    assert (held.finding, held.code, held.round) == ("fraud", "wrong_step", 3)


@pytest.mark.parametrize(("rival", "code"), [(execution(9), "wrong_step"), (execution(3, aux_only=True), "wrong_step")])
def test_an_honest_claim_wins_the_game(rival: object, code: str) -> None:
    appeals = Appeals(GOOD, trace=TRUTH)
    appeals.decided("accept")
    for _ in range(2):
        appeals.appeal(CHALLENGER)
        appeals.run()
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    before = [ledger.available(cls, CHALLENGER.peer) for cls in "SU"]
    appeals.appeal(CHALLENGER, rival)  # type: ignore[arg-type]
    held = appeals.run(60)
    assert (held.finding, held.code, held.end) == ("accept", code, "paid")
    assert sum(ledger.available(cls, CHALLENGER.peer) for cls in "SU") < sum(before), "the bond is lost"


def test_a_challenger_who_says_nothing_has_lost() -> None:
    appeals = Appeals(GOOD, trace=TRUTH)
    appeals.decided("accept")
    for _ in range(2):
        appeals.appeal(CHALLENGER)
        appeals.run()
    appeals.advocates[CHALLENGER.peer].referees = lambda: ()
    appeals.appeal(CHALLENGER, execution(9))
    held = appeals.run(6 * 60)
    assert (held.finding, held.code) == ("accept", "silent")


def test_what_is_not_for_the_court() -> None:
    appeals = Appeals()
    with pytest.raises(LocalError):
        court_of(appeals).receive(KEYS[0].peer, Submit(()), NOW)
    assert court_of(appeals).restore([], NOW) == []
    assert court_of(appeals).tick(NOW) == []


def test_what_is_on_disk_is_forgotten_when_it_is_over() -> None:
    appeals = Appeals(GOOD)
    appeals.decided("accept")
    appeals.appeal(RENTER)
    appeals.run(12 * 60 * (MINUTE // MINUTE))
    assert appeals.held.end == "paid"
    effects = court_of(appeals).tick(appeals.quorum.now)
    assert not [effect for effect in effects if isinstance(effect, Store)]
    assert not [name for name in appeals.quorum.disks[KEYS[0].peer] if name.startswith(KEY)]


# ── D3 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("trace", "verdict", "who", "finding", "code"),
    [
        (TRUTH, "rejected", PROVIDER, "accept", "within_tolerance"),
        (TRUTH, "accept", CHALLENGER, "accept", "within_tolerance"),
        (execution(0), "accept", CHALLENGER, "rejected", "e_g"),
        (execution(0), "rejected", PROVIDER, "rejected", "e_g"),
    ],
)
def test_a_panel_replays_units_within_the_tolerance(
    trace: Trace, verdict: str, who: Identity, finding: str, code: str
) -> None:
    appeals = Appeals(GOOD, "D3", trace)
    appeals.decided(verdict)
    appeals.appeal(who)
    held = appeals.run()
    assert (held.finding, held.code, held.round) == (finding, code, 1)
    assert len({peer for peer, _ in appeals.runs}) == 3
    assert {len(run.units) for _, run in appeals.runs if run.last is None} == {4}
    assert all(leaf.aux == leaf.input == bytes(32) for _, run in appeals.runs for leaf in run.units), "blind"


@pytest.mark.parametrize(
    ("verdict", "finished", "finding", "code"),
    [
        ("accept", BAD, "rejected", "output_differs"),
        ("rejected", BAD, "rejected", "output_differs"),
        ("accept", Digest(bytes(32)), "rejected", "unit_unreplayable"),
        ("rejected", GOOD, "accept", "within_tolerance"),
    ],
)
def test_an_output_that_is_not_made_of_the_last_state_is_found_too(
    verdict: str, finished: Digest, finding: str, code: str
) -> None:
    """Every unit is right; what is handed over is something else."""
    appeals = Appeals(GOOD, "D3", TRUTH)
    appeals.finished = finished
    appeals.decided(verdict)
    appeals.appeal(CHALLENGER if verdict == "accept" else PROVIDER)
    held = appeals.run(40)
    assert (held.finding, held.code, held.round) == (finding, code, 1)
    units = {peer for peer, run in appeals.runs if run.units}
    assert units == {peer for peer, run in appeals.runs if run.last is not None} and len(units) == 3


@pytest.mark.parametrize("verdict", ["accept", "rejected"])
def test_a_last_state_that_nobody_gets_is_withheld(verdict: str) -> None:
    """Else files that are made of something else would stand wherever their state is kept back from the panel."""
    appeals = Appeals(GOOD, "D3", TRUTH)
    appeals.finished, appeals.unfinished = Digest(bytes(32)), "inputs"
    appeals.decided(verdict)
    appeals.appeal(CHALLENGER if verdict == "accept" else PROVIDER)
    held = appeals.run(40)
    assert (held.finding, held.code, held.round) == ("rejected", "withheld", 1)


def test_members_that_say_the_opposite_are_outvoted() -> None:
    appeals = Appeals(GOOD, "D3", TRUTH, lying=frozenset([AUDITORS[0].peer, AUDITORS[1].peer]), seats=7)
    appeals.decided("rejected")
    appeals.appeal(PROVIDER)
    first = appeals.run()
    sat = {peer for peer, _ in appeals.runs} & appeals.lying
    assert first.finding == ("accept" if len(sat) < 2 else "rejected")


def test_a_provider_that_does_not_open_its_trace_has_withheld_it() -> None:
    appeals = Appeals(GOOD, "D3", TRUTH)
    appeals.decided("accept")
    appeals.advocates[PROVIDER.peer].referees = lambda: ()
    appeals.appeal(CHALLENGER)
    held = appeals.run(90)
    assert (held.finding, held.code) == ("rejected", "withheld")


def test_the_game_is_also_played_within_a_tolerance() -> None:
    appeals = Appeals(GOOD, "D3", execution(12))
    appeals.decided("accept")
    appeals.lying = frozenset(item.peer for item in AUDITORS)
    for _ in range(2):
        appeals.appeal(CHALLENGER)
        appeals.run()
    appeals.lying = frozenset()
    assert (appeals.held.finding, appeals.held.round) == ("accept", 2), "captured"
    appeals.candidates = {key.peer: STAKE for key in KEYS}
    appeals.appeal(CHALLENGER, TRUTH)
    held = appeals.run(60)
    assert (held.finding, held.code) == ("rejected", "wrong_step")


def test_over_a_bad_line_in_d3() -> None:
    appeals = Appeals(GOOD, "D3", execution(0))
    appeals.decided("accept")
    appeals.quorum.loss = 0.1
    appeals.appeal(CHALLENGER)
    assert appeals.run(200).finding == "rejected"
