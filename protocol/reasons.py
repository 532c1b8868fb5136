"""Why a result was accepted, refused, disputed or could not be compared: one row for every code of the proof.

A verdict, a ruling and a refusal carry the code alone; whatever shows one to people takes sentence, fault and fix from
here. Codes are stable: they are part of the ledger's history. Guide: docs/verification.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Fault = Literal["provider", "auditor", "job", "network", "nobody"]
"""Whose doing it is: who computed, who checked, what the renter wrote, the machines in between, or nobody's."""

WHO: Final[Mapping[Fault, str]] = MappingProxyType(
    {
        "provider": "the provider's",
        "auditor": "the auditor's",
        "job": "the job's",
        "network": "the network's",
        "nobody": "nobody's",
    }
)


@dataclass(frozen=True, slots=True)
class Reason:
    """One code in words."""

    code: str
    fault: Fault
    sentence: str
    """What was found; a whole sentence without its full stop."""
    fix: str
    """What whoever reads it can do; a whole sentence."""


_AGAIN: Final = "Nothing: the chunk is computed again by somebody else, and you pay for one result."
_PROVIDER: Final = "Run the chunk again on another machine of yours; if it differs there, this one is broken."
_APPEAL: Final = "If your machine is sound, appeal within the dispute window: a panel executes it again."
_PAID: Final = "There is nothing to do."
_NEXT_ONE: Final = "Nothing. It adds nothing to its provider's record, whose next result is audited in any case."
_CHECKED_LATER: Final = "Nothing. Say `trust: high` if you want more results executed again."
_HANDED: Final = "Send what the protocol asks for, as it is in specs/31-units.md; update the node."
_TENSORS: Final = "Write states with the guest's own codec (`shoal_work`), with the same names and shapes every time."

_STANDS: Final = "Nothing: the bond comes back. The next round may be asked for."
_GAME: Final = "Nothing: the bond of whoever was right comes back."

_ROWS: Final[tuple[tuple[str, Fault, str, str], ...]] = (
    # Accepted
    ("not_sampled", "nobody", "The claim was not drawn for an audit; its output is here", _CHECKED_LATER),
    ("attested", "nobody",
     "The claim was drawn, and trusted hardware vouches for its machine; its output is here", _CHECKED_LATER),
    ("hash_equal", "nobody", "Everybody who executed it again got the same bytes", _PAID),
    ("units_equal", "nobody", "Every replayed unit ends in the state that was claimed", _PAID),
    ("within_tolerance", "nobody", "Every replayed unit lies within the job's tolerance", _PAID),
    ("equal", "nobody", "The replay is the claim, bit for bit", _PAID),
    ("check_passed", "nobody", "The job's own check accepts the result", _PAID),
    ("no_auditor", "network", "Nobody was there who may execute it again; it is paid unaudited", _NEXT_ONE),
    ("audit_failed", "network", "The auditors that were drawn failed; it is paid unaudited", _NEXT_ONE),
    ("audit_late", "network", "The ledger's deadline came before an audit ended; it is paid unaudited", _NEXT_ONE),
    ("not_reproducible", "job", "Three executions gave three outputs: the job is not deterministic",
     "Fix seeds, one thread, no dates; or declare D3 with a tolerance (docs/verification.md)."),
    # Proven wrong: the result, or a unit of it, is not what the program makes of its inputs
    ("hash_differs", "provider", "Two executions agree with each other, and not with the claim", _PROVIDER),
    ("unit_differs", "provider", "Two replays of a unit agree, and not with the claimed state", _APPEAL),
    ("seal_mismatch", "provider", "What was opened is not what was sealed", _HANDED),
    ("bad_output", "provider", "The output is none that this job can have", _PROVIDER),
    ("bad_path", "provider", "An opened leaf does not lead to the root of the claim's trace", _HANDED),
    ("bad_schedule", "provider", "A unit read other inputs than the job and its number name",
     "Read inputs from `Work.input` only: the order of the data is the protocol's."),
    ("data_not_in_root", "provider", "A unit read data that is not in the job's data set",
     "Read inputs from `Work.input` only: the order of the data is the protocol's."),
    ("bad_effects", "provider", "The claimed effects of units are not those that were committed to", _HANDED),
    ("check_failed", "provider", "The job's own check refuses the result", "Run the check yourself before you claim."),
    ("equivocation", "provider", "The same place was claimed, or the same beacon opened, in two ways",
     "Never run one identity on two machines."),
    ("wrong_canary", "provider", "A chunk whose answer was known came back with another", _APPEAL),
    ("double_claim", "provider", "The chunk was claimed twice at one epoch", "Never run one identity on two machines."),
    ("replay", "provider", "The proof belongs to another claim, or was used before", _HANDED),
    ("bad_time", "provider", "A time in the claim is before it was possible, or after it was seen",
     "Set the machine's clock by NTP."),
    ("too_fast", "provider", "The chunk ended sooner than the declared device can compute it",
     "Declare the device that computes; results that were cached say so by their time."),
    ("out_of_tolerance", "provider", "Two auditors agree that a unit lies outside the job's tolerance", _APPEAL),
    ("unit_unreplayable", "provider", "No auditor could replay a unit from the state that was claimed", _APPEAL),
    ("output_not_last_state", "provider", "The output does not hold the last state of the trace", _HANDED),
    ("output_differs", "provider", "The last state gives other output files", _PROVIDER),
    ("impossible_speed", "provider", "The chunk ended sooner than any device could move its numbers",
     "Declare the device that computes; the claim is audited, not slashed."),
    # Not delivered
    ("unconfirmed", "nobody", "One execution differed, and no second came in time to confirm it", _AGAIN),
    ("not_revealed", "provider", "The provider did not open its claim",
     "Keep the node connected until the verdict; `shoal doctor` says whether others reach it."),
    ("withheld", "provider", "The provider did not hand out the units that the audit asked for",
     "Keep states until the claim is final, and the node connected; `shoal doctor` says whether others reach it."),
    ("output_unavailable", "provider", "Nobody delivers the output that was claimed",
     "Keep outputs until the verdict; `shoal doctor` says whether others reach the node."),
    ("output_too_large", "job", "The output has more bytes than the job's disk", "Raise resources.disk of the job."),
    ("inputs_missing", "job", "The specification, or the results that a reduce step reads, are not to be had",
     "Keep the node that carries the job running until it is settled; the bond of an appeal comes back."),
    ("bad_spec", "job", "The blob that the escrow names is no specification, or has no such chunk",
     "Submit the job again with a current program; the bond of an appeal comes back."),
    # Tolerance (D3): statistical, never slashed alone
    ("update_differs", "provider", "The change that the unit made is not the one that its replay makes", _APPEAL),
    ("gradient_differs", "provider", "The first gradient of the unit is not that of its batch", _APPEAL),
    ("loss_differs", "provider", "The claimed losses are not those of the scheduled batches", _APPEAL),
    ("no_update", "provider", "The unit returned the parameters that it was given", _APPEAL),
    ("off_grid", "provider", "Values are not on the job's grid, or too many are one step off", _APPEAL),
    ("drift", "provider", "Small errors of many units all point the same way",
     "Run the declared precision: an error that is chance has no direction."),
    ("not_finite", "provider", "A value is NaN or infinite", _PROVIDER),
    ("shape_differs", "provider", "Names, types or shapes of tensors are not those of the replay", _TENSORS),
    ("malformed_proof", "provider", "What was sent as proof cannot be read within its bounds", _TENSORS),
    ("nothing_compared", "network", "The report of the comparison names no unit", _AGAIN),
    ("second_look", "nobody", "The score is between .85 and .95: a second auditor decides", _AGAIN),
    ("score_low", "provider", "The score of the worst replayed unit is below .85", _APPEAL),
    ("segment_differs", "provider", "A replayed segment of the simulation ends elsewhere", _APPEAL),
    ("rows_differ", "provider", "Rows of the unit are not those of its replay", _APPEAL),
    ("sum_differs", "provider", "The aggregate is not the sum of its committed parts", _PROVIDER),
    ("residual_too_large", "provider", "The solution does not solve the system within its bound", _PROVIDER),
    ("drift_too_large", "provider", "Energy or mass drifted more than the integrator can", _PROVIDER),
    ("constraint_violated", "provider", "A constraint of the problem is violated", _PROVIDER),
    ("gap_too_large", "provider", "Primal and dual bound are too far apart", _PROVIDER),
    ("pixels_differ", "provider", "Sums of chosen pixels are not those of their samples", _APPEAL),
    ("variance_law", "provider", "The noise is not that of so many samples: fewer were taken, or smoothed", _APPEAL),
    ("too_few_samples", "provider", "Fewer samples were taken than the job asks for", _PROVIDER),
    ("wrong_tokens", "provider", "The words are not those that this model and seed draw", _APPEAL),
    ("improbable_stop", "provider", "The answer ends where the model would hardly have ended", _APPEAL),
    ("fingerprint_differs", "provider", "The activations are not those of this model", _APPEAL),
    ("prompt_differs", "provider", "Another prompt was answered", _PROVIDER),
    ("wrong_product", "provider", "An integer product of the model is not what its weights give", _APPEAL),
    ("wrong_leaf", "provider", "What was opened of an answer is not what was committed to", _HANDED),
    ("malformed_audit", "auditor", "The auditor's own result cannot be read", _TENSORS),
    ("undecided", "nobody", "Too few words to tell this model from another: more are looked at", _AGAIN),
    # Rulings of appeals
    ("upheld", "nobody", "The panel found what the judges had found", "Nothing: the bond is lost."),
    ("overturned", "auditor", "The panel found otherwise than the judges; the bond comes back",
     "Nothing: what was held or taken is given back."),
    ("no_ruling", "network", "Nobody ruled in time; the last decision stands", "Appeal to the next round."),
    ("game_won", "nobody", "Step by step the appellant's trace was found right", "Nothing: the bond comes back."),
    ("game_lost", "nobody", "Step by step the appellant's trace was found wrong",
     "Nothing: the bond is lost; appeal only with a trace of your own execution."),
    ("not_reproduced", "nobody", "The panel could not agree among itself; the finding stands", _STANDS),
    ("no_majority", "nobody", "No result had a majority of the panel; the finding stands", _STANDS),
    ("no_panel", "network", "Nobody was there who may sit in the panel; the finding stands", _STANDS),
    ("not_comparable", "job", "No panel can execute such a job, or what it read is gone; the finding stands",
     "Nothing: the bond is lost. Look at the job before you appeal; a D3 job needs a trace."),
    ("nothing_to_compare", "provider", "No output was revealed that a panel could compare; the finding stands",
     "Nothing: the bond is lost. Keep outputs and states until the claim is final."),
    ("silent", "nobody", "One side of the game let its clock run out", "Keep the node connected while a game is on."),
    ("wrong_step", "nobody", "Executed publicly, the first step in dispute goes against one side", _GAME),
    ("not_replayed", "network", "Too few machines could replay the step in dispute; the claim in possession stands",
     "Nothing: the challenger's bond is lost."),
    ("bad_leaf", "nobody", "What one side opened as the step in dispute does not fit its own trace", _GAME),
    ("no_difference", "nobody", "Both sides claim the same trace: there is nothing to decide", _GAME),
    ("already_appealed", "network", "An appeal against this decision is open", "Wait for its ruling."),
    ("window_closed", "network", "The dispute window is over", "Appeal earlier next time."),
    ("last_round", "network", "That ruling was the last", "Nothing: it stands."),
    ("not_a_party", "network", "Only who loses by a finding may appeal", "Look at the evidence."),
    ("bond_too_small", "network", "The bond is less than the round costs", "Leave `--bond` out: the least is taken."),
    ("no_rival", "network", "The third round is played between two traces", "Name the trace that you stand for."),
    ("wrong_round", "network", "The appeal names another round than the next", "Look at the evidence again."),
    ("not_held", "network", "Nothing about this claim is held: it was not decided yet, or its window is over",
     "Appeal between a decision and the end of its window."),
    ("not_signed", "network", "The signature of whoever it is about is missing", "Sign with the key of that peer."),
    ("no_appeal", "network", "No such appeal is open", "Rule on open appeals only."),
    ("bad_finding", "network", "Ruling and finding do not go together", "Uphold, or name another finding."),
    ("bad_panel", "network", "The panel has a party in it, or somebody twice", "Draw the panel again."),
    ("bad_inheritance", "provider", "Units of an earlier lease that was judged, or whose provider did not sign",
     "Go on from a snapshot of a lease that ended without a verdict, or begin at unit 0."),
    ("bad_blame", "network", "The fault cannot be laid to that earlier lease", "Blame one that the claim inherited."),
    ("bad_auditors", "network", "Auditors who share the fee are not distinct, or not without a side",
     "Name each auditor that agreed once, and nobody else."),
    ("game_over", "network", "The game is over", "Read its ruling."),
    ("not_the_speaker", "network", "It is the other side's turn", "Wait to be asked."),
    ("busy", "network", "Too many games are on", "Appeal again later."),
    ("bad_descent", "provider", "A deeper level of the trace does not belong to the step above it", _HANDED),
    ("bad_program", "job", "The graph of the unit cannot be read", "Leave the operator level out of the job."),
    ("malformed", "provider", "A tensor or operator cannot be read within its bounds", _TENSORS),
    ("no_tape", "network", "This node keeps no operators of that unit", "Ask who executed it."),
    ("no_trace", "provider", "A job with units was claimed without its trace", _HANDED),
    ("no_such_leaf", "network", "The trace has no such leaf", "Ask for a leaf that exists."),
    ("not_at_issue", "network", "That step is not in dispute", "Ask about the one that is."),
    # What auditors and panels are told
    ("audit_seal_mismatch", "auditor", "What the auditor opened is not what it sealed", _HANDED),
    ("refuted", "auditor", "Two others refuted what this auditor sealed", _PROVIDER),
    ("not_opened", "auditor", "The auditor sealed a result and did not open it",
     "Keep the node connected until the audit is open; the fee is paid for opened evidence."),
    ("not_the_auditor", "auditor", "It was not drawn for this audit", "Nothing: whoever is drawn is asked."),
    ("not_a_validator", "network", "Only a validator may ask for that", "Ask one of the validators."),
    ("other_inputs", "network", "The same chunk and epoch was asked about with other inputs", _AGAIN),
    ("not_the_provider", "network", "It did not make that claim", "Nothing: the provider is asked."),
    ("not_the_steward", "network", "Only the job's steward tells what a lease reads", "Ask the steward."),
    ("wrong_spec", "network", "Inputs of another specification than the escrow's", _AGAIN),
    ("wrong_inputs", "network", "Inputs that are not the accepted outputs of the chunks", _AGAIN),
    ("inputs_unknown", "network", "Not all results that it reads are accepted yet", "Wait: the claim will tell."),
    ("copied", "auditor", "It sealed what another had sealed before", "Execute it yourself: only that is evidence."),
    ("late", "auditor", "The auditor did not seal in time", "Audit only what the machine has time for."),
    ("other_output", "auditor", "The auditor looked at another output than the one revealed", _HANDED),
    ("results_unavailable", "auditor", "The auditor's results could not be fetched", "Keep them until the verdict."),
    ("malformed_results", "auditor", "The auditor's results cannot be read, or name other units", _TENSORS),
    ("check_unfinished", "auditor", "The job's check did not come to an end at the auditor",
     "Make the check cheaper than the job, within its timeout."),
    ("no_such_chunk", "network", "The job has no such chunk", "Ask for one that exists."),
    ("queue_full", "auditor", "This auditor has too many audits waiting", "Nothing: another is drawn."),
    ("no_audit", "network", "No such audit was asked for", "Ask for the audit first."),
    ("too_early", "network", "That is asked for before its turn", "Wait for the step before it."),
    # Leases, beacons and absences that the ledger refuses
    ("banned", "provider", "The provider has handed in proven fraud, and gets no lease any more",
     "Nothing: another provider is asked. If it was no fraud, appeal within the window."),
    ("over_exposed", "provider", "Its stake does not answer for so much work at once",
     "Bond more stake, wait until held pay is paid, or take a cheaper chunk."),
    ("no_escrow", "network", "There is no such escrow here yet", "Wait: the claim will tell."),
    ("escrow_closed", "network", "The escrow is closed, or closes when nothing is held any more",
     "Open another: submit the job again."),
    ("no_beacon", "network", "The beacon that audits are drawn from is not there yet",
     "Wait: the validators make it within seconds."),
    ("beacon_not_wanted", "network", "No part of a beacon of that number is wanted now", "Nothing: it is over."),
    ("beacon_sealed", "network", "A part of that beacon was sealed before, or its opening has begun",
     "Nothing: one part of each validator counts."),
    ("no_policy", "network", "This network has no economics in its genesis", "Nothing: verdicts are final here."),
    ("bad_day", "network", "The absence is of neither today nor yesterday", "Report a day while it is fresh."),
    ("no_stake", "network", "The absent peer has no stake that is free", "Nothing."),
    # What cannot be set up
    ("no_margin", "job", "Honest runs and cheats lie too close together for a tolerance",
     "Use a bitwise class (D1) for this task, or fp32 instead of a lower precision."),
    ("few_runs", "job", "Too few runs were measured for a tolerance", "Measure at least 200 honest runs."),
    ("no_comparison", "job", "This kind of work is compared as bytes only", "Use numeric D0, D1 or D2 for it."),
    ("not_calibrated", "job", "There is no calibration for this pair of machine classes",
     "Calibrate the task (docs/verification.md), or use a bitwise class."),
    ("no_growth_seen", "job", "The simulation shows no growth of errors to size its segments by",
     "Say the segment's length yourself."),
    ("few_samples", "network", "Too few samples to tell canaries from work", "Collect more before you judge them."),
    ("distinguishable", "network", "Canaries of this batch could be told from work by their looks",
     "Draw their sizes, times and prices from those of real work."),
    ("not_recodable", "job", "This input cannot be re-encoded, so that it cannot serve as a canary twice",
     "Use another chunk as a canary."),
    ("other_length", "network", "Answer and canary have different lengths", "Re-issue the canary."),
    ("key_worn_out", "auditor", "This Freivalds secret was used too often", "Draw a fresh one."),
    ("too_large", "network", "Numbers too large for the exact product", "Use smaller blocks."),
    ("bad_challenge", "network", "The benchmark asked for makes no sense", "Ask for one within the bounds."),
    ("wrong_row", "provider", "An opened row of the benchmark is not the product", _PROVIDER),
    ("too_slow", "provider", "The benchmark took longer than the declared device needs", "Declare what you have."),
    ("no_answer", "provider", "A claim of the offer is not shown, often as it was asked", "Give its card a runtime."),
    ("not_the_issuer", "network", "A benchmark was asked for by a stranger", "Carry a job first, or be a validator."),
    ("unknown_gpu", "provider", "Nothing is known of the declared device", "Name the model as its maker does."),
    # LoRA deltas and usefulness: pay a bonus, never slash
    ("not_useful", "nobody", "The update does not lower the loss on hidden data: no bonus", "Nothing: work is paid."),
    ("names_differ", "provider", "The delta has other tensors than its configuration names", _TENSORS),
    ("rank_differs", "provider", "The delta has another rank than its configuration", _TENSORS),
    ("base_differs", "provider", "The delta is for another base model", "Fetch the base model that the job names."),
    ("change_too_large", "provider", "The delta changes the model more than training can", _APPEAL),
    # Trusted hardware
    ("missing_quote", "provider", "There is no quote of CPU and GPU together", "Send both, for this claim."),
    ("stale_nonce", "provider", "The quote was made for something else", "Make one for this claim and beacon."),
    ("unknown_image", "provider", "The measured image is not among those allowed", "Run an image of the list."),
    ("outdated_platform", "provider", "The platform's security version is too old", "Update its firmware."),
    ("debug_machine", "provider", "The machine is open to its owner's debugger", "Start it without debugging."),
    ("bad_chain", "provider", "The quote's certificates do not follow from each other", "Send the maker's chain."),
    ("bad_signature", "provider", "A signature of the quote is wrong", "Send the quote as the hardware made it."),
    ("untrusted_root", "provider", "The quote's root is not its maker's", "Send the maker's chain."),
    ("revoked", "provider", "A certificate of the quote was revoked", "Use another machine."),
    ("expired", "provider", "A certificate of the quote is out of date", "Fetch current certificates."),
    ("loss_too_high", "provider", "The delta makes the model worse on data that it never saw", _APPEAL),
)  # fmt: skip

REASONS: Final[Mapping[str, Reason]] = MappingProxyType({row[0]: Reason(*row) for row in _ROWS})
"""code -> row."""

UNKNOWN: Final = Reason(
    "unknown", "nobody", "A code that this version does not know", "Update this program; specs/11-verification.md."
)


def reason(code: str) -> Reason:
    """The row of a code. Codes of other versions get a row that says so, under their own name.

    >>> reason("withheld").fault, reason("from_the_future").sentence
    ('provider', 'A code that this version does not know')
    """
    return REASONS.get(code) or Reason(code, UNKNOWN.fault, UNKNOWN.sentence, UNKNOWN.fix)


def explained(code: str, outcome: str = "") -> Reason:
    """The row for people: the same code may stand under several outcomes, and an accepted result is nobody's fault."""
    found = reason(code)
    is_fault = found.fault in ("provider", "auditor") and outcome == "accept"
    return Reason(found.code, "nobody", found.sentence, _PAID) if is_fault else found
