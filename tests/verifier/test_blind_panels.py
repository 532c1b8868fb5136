"""What a member of a panel is asked is what an auditor is asked before a verdict: nothing in it tells of an appeal."""

from __future__ import annotations

from msgspec.structs import replace

from protocol import wire
from protocol.completions import Fetched
from protocol.effects import Send
from protocol.jobspec import JobSpec
from protocol.messages import AuditRequest
from protocol.proof import Proof
from protocol.units import Micros, PeerId
from tests.verifier.appeals import TRUTH, UNITS
from tests.verifier.court import ESCROW, GOOD, NOW, PROVIDER, RENTER, STEWARD, STRANGER, Court, job
from tests.verifier.unit_court import UnitCourt, unit_job
from verifier.docket import Gathering, Trial
from verifier.panel import Panel
from verifier.rehearing import Rehearing
from verifier.summons import Summons
from verifier.views import Facts

APPELLANT = PeerId(b"A" * 32)
LATER = Micros(10**9)


def trial(spec: JobSpec, chunk: int = 0) -> tuple[Trial, Facts]:
    """An appeal about a claim of the judge's court."""
    facts = Facts.of(wire.digest(wire.encode(spec)), len(wire.encode(spec)), spec)
    about = Trial(
        place=(ESCROW, chunk, 1), appeal=b"a" * 32, round=1, seed=b"s" * 32, due=LATER, provider=PROVIDER.peer,
        appellant=APPELLANT, speaker=APPELLANT, renter=RENTER.peer, steward=STEWARD.peer, spec=facts.digest,
        finding="accept", claimed=GOOD, trace=b"", rival=b"", order=(), barred=frozenset(),
        inherited=0, state=Gathering(LATER, NOW),
    )  # fmt: skip
    return about, facts


def asked(court: Court) -> AuditRequest:
    [(_, request)] = court.sent(AuditRequest)
    assert isinstance(request, AuditRequest)
    return request


def test_of_a_whole_chunk_word_for_word() -> None:
    court = Court(audit_ppm=1_000_000)
    court.claim()
    court.know_spec()
    about, facts = trial(job(1_000_000))
    assert about.request(facts, ()) == asked(court)


def test_of_a_certificate_s_check_word_for_word() -> None:
    spec = replace(job(), proof=Proof("certificate", check=("true",)))
    court = Court(spec=spec)
    court.claim()
    court.know_spec()
    court.reveal()
    court.hear(PROVIDER, Fetched(GOOD, 10))
    about, facts = trial(spec)
    assert about.request(facts, ()) == asked(court)


def test_of_single_units_all_but_the_lot() -> None:
    """Units and seed are drawn; everything else is equal, and so is how much of a leaf is shown."""
    spec = unit_job("D3", count=UNITS)
    court = UnitCourt(spec).begin().unfold()
    ordinary = asked(court)
    about, facts = trial(spec)
    panel = Panel.of(about.request(facts, ()), Summons((STRANGER.peer,), (), 1), NOW, LATER, LATER)
    rehearing = Rehearing.of(about.seed, PROVIDER.peer, b"r" * 32, facts, panel, NOW)
    rehearing.leaves = {index: TRUTH.leaves[index] for index in rehearing.indices}
    [sent] = [effect.message for effect in rehearing._begin(NOW) if isinstance(effect, Send)]
    assert isinstance(sent, AuditRequest)
    assert replace(sent, units=(), seed=b"") == replace(ordinary, units=(), seed=b"")
    assert (len(sent.units), len(sent.seed)) == (len(ordinary.units), len(ordinary.seed))
    hidden = [(leaf.input, leaf.aux, leaf.aux_bytes) for leaf in (*sent.units, *ordinary.units)]
    assert set(hidden) == {(bytes(32), bytes(32), 0)}
