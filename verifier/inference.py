"""An answer compared with its replay: were these tokens drawn from this model, for this prompt, with this seed?

Two kinds of evidence are needed. The *fingerprint* binds the forward pass, but whoever lets a small model answer and
the large one read the answer has the right one. The *margins* bind the decoding: how far each token is from the one
that the seed makes the reference draw. A small model, other weights, another temperature or another seed misses, token
by token. An exact model's answer is compared as bytes; its leaves tell which kind it is.
Spec: specs/34-inference-proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from protocol.proof import PPT, Leaf, Tolerance
from verifier import fingerprint
from verifier.fingerprint import Fingerprint
from verifier.gumbel import MARGIN_MAX
from verifier.score import Comparison, rescaled
from verifier.sprt import Evidence, Hypotheses
from verifier.tensors import Tensors

TOKENS: Final = "tokens"
PROMPT: Final = "prompt"
PLACES: Final = "places"
VALUES: Final = "values"
ENDS: Final = "ends"
LEAVES: Final = "leaves"
MARGINS: Final = "margins"
ENDING: Final = "ending"
MALFORMED: Final = "malformed"

NEAR: Final = 0.05
"""Nats: a token that is so near to the right one is neither a hit nor a miss. bf16 beside bf16 shows no larger one."""

NEAR_SHARE_MAX: Final = 0.25
"""Of all tokens that may be near ones, so that nobody hides in them. Mild cheats show 0.01."""

HONEST_MIN: Final = 0.002
"""Rate of misses that is never held against anybody: none was seen in 7,000 honest tokens, which says no more."""

STOP_MIN: Final = 0.1
"""Probability of the end, below which a stop that the seed does not ask for is improbable."""

WITHIN: Final = "within_tolerance"
EQUAL: Final = "equal"
DOUBTFUL: Final = "undecided"

CODES: Final = frozenset({
    EQUAL, WITHIN, DOUBTFUL, "wrong_tokens", "improbable_stop", "fingerprint_differs", "prompt_differs",
    "malformed_proof", "malformed_audit",
})  # fmt: skip
"""Everything that a comparison can say."""

DOUBT: Final = 0.1
"""Of the scale between t_ok and t_bad: what evidence for a cheat counts while it is too weak to decide. It asks for a
second auditor, never for a rejection."""

_HASH: Final = 32


def compare(
    start: Tensors,
    claimed: Tensors | None,
    replayed: Tensors | None,
    claimed_aux: Tensors,
    replayed_aux: Tensors,
    tolerance: Tolerance,
) -> Comparison:
    """The answer in `start` and what its provider told about it, beside what an auditor's pass over it told.

    `tolerance` holds two rates of missed tokens. `claimed` and `replayed`, the next answer, are not looked at: it has a
    unit of its own. Never raises for what a peer wrote."""
    if not claimed_aux and not replayed_aux and TOKENS in start and not start[TOKENS].size:
        return Comparison(0.0, EQUAL, "before the first request nothing is told")
    if MALFORMED in replayed_aux:
        return Comparison(math.inf, "malformed_proof", "the state is no answer to the request")
    if fault := _fault(start, claimed_aux):
        return Comparison(math.inf, "malformed_proof", fault)
    if LEAVES in replayed_aux:
        return _exact(claimed_aux, replayed_aux)
    if fault := _own_fault(start, replayed_aux):
        return Comparison(math.inf, "malformed_audit", fault)
    if not np.array_equal(start[PROMPT], replayed_aux[PROMPT]):
        return Comparison(math.inf, "prompt_differs", "the answer is to another request than the job's")
    if fault := fingerprint.fault(_print(claimed_aux), replayed_aux[PLACES].shape):
        return Comparison(math.inf, "malformed_proof", fault)
    margins = replayed_aux[MARGINS].astype(np.float64)
    decoded = decoding(margins, tolerance)
    if decoded.code == "wrong_tokens":
        return decoded
    if improbable := _endings(replayed_aux[ENDING].astype(np.float64), margins[start[ENDS].astype(np.int64) - 1]):
        return Comparison(math.inf, "improbable_stop", improbable)
    return _forward(claimed_aux, replayed_aux, tolerance.profile) or decoded


def are_delivered(files: Collection[bytes], leaves: Iterable[Leaf]) -> bool:
    """Whether answers that were opened are files of the output, by their digests: what is checked is what is paid for.

    `leaves` are those of replayed units. State 0 is empty and no file."""
    return all(leaf.state in files for leaf in leaves if leaf.index)


def evidence(margins: npt.NDArray[np.floating]) -> Evidence:
    """Misses among the tokens that are hits or misses; near ones are neither, up to NEAR_SHARE_MAX of all."""
    far = int(np.sum(~(margins <= NEAR)))
    near = int(np.sum(margins > 0)) - far
    excess = max(0, near - int(NEAR_SHARE_MAX * len(margins)))
    return Evidence(far + excess, len(margins) - near + excess)


def hypotheses(tolerance: Tolerance) -> Hypotheses:
    """The rates of misses that a tolerance allows an honest machine, and expects of a cheat."""
    honest = min(0.5, max(HONEST_MIN, tolerance.t_ok / PPT))
    return Hypotheses(honest, min(0.9, max(tolerance.t_bad / PPT, 1.5 * honest)))


def decoding(margins: npt.NDArray[np.floating], tolerance: Tolerance) -> Comparison:
    """What the margins (nats, one per token) of one answer, or of several, say about who drew the tokens."""
    seen, rates = evidence(margins), hypotheses(tolerance)
    share = seen.misses / max(1, seen.tokens)
    mean = float(np.mean(np.minimum(margins, MARGIN_MAX))) if len(margins) else 0.0
    detail = f"{seen.misses} of {seen.tokens} tokens missed, {mean:.4f} nats on average"
    match rates.decide(seen):
        case "reject":
            return Comparison(max(share, tolerance.t_bad / PPT), "wrong_tokens", detail)
        case "accept":
            return Comparison(min(share, tolerance.t_ok / PPT), WITHIN, detail)
    if rates.log_odds(seen) > 0:
        return Comparison(rescaled(math.exp(DOUBT), 1.0, math.e, tolerance), DOUBTFUL, f"{detail}: too few to decide")
    return Comparison(min(share, tolerance.t_ok / PPT), WITHIN, detail)


def _exact(claimed: Tensors, replayed: Tensors) -> Comparison:
    """Equality, and what differs where there is none. An exact replay adds margins only where something is wrong."""
    if replayed.keys() == claimed.keys() and all(np.array_equal(claimed[name], replayed[name]) for name in replayed):
        return Comparison(0.0, EQUAL, "equal to the last bit")
    if MARGINS in replayed and np.any(replayed[MARGINS].astype(np.float64) != 0):
        return Comparison(math.inf, "wrong_tokens", "a token differs from the one that the integers give")
    if ENDING in replayed and np.any(~(replayed[ENDING].astype(np.float64) >= 0)):
        return Comparison(math.inf, "improbable_stop", "the answer ends where neither the model nor the limit ends it")
    if MARGINS in replayed:
        return Comparison(math.inf, "prompt_differs", "the answer is to another request than the job's")
    return Comparison(math.inf, "fingerprint_differs", "the integers behind the answer are not those of the model")


def _forward(claimed: Tensors, replayed: Tensors, profile: str) -> Comparison | None:
    """What the two fingerprints say, where they are not alike. The profile's first word is the job's arithmetic."""
    found = fingerprint.compare(_print(claimed), _print(replayed))
    if found.is_within(fingerprint.BOUNDS.get(profile.partition("/")[0], fingerprint.BOUNDS["bf16"])):
        return None
    detail = (
        f"{found.equal:.0%} of the largest activations agree in sign and exponent, "
        f"mantissas differ by {found.mantissa_mean:.1f} steps"
    )
    return Comparison(math.inf, "fingerprint_differs", detail)


def _endings(probabilities: npt.NDArray[np.float64], margins: npt.NDArray[np.float64]) -> str:
    """Why an answer does not end where it does; empty where all may. A stop that the seed asks for is never
    improbable."""
    for probability, margin in zip(probabilities.tolist(), margins.tolist(), strict=True):
        if not probability >= 0:
            return "an answer ends without a stop token and before its limit"
        if not margin <= NEAR and not probability >= STOP_MIN:
            return f"the model ends the answer there with a probability of {probability:.4f}"
    return ""


def _fault(start: Tensors, aux: Tensors) -> str:
    """What rules out what a provider told, before anything is compared."""
    tokens, ends, prompt = start.get(TOKENS), start.get(ENDS), start.get(PROMPT)
    if tokens is None or tokens.dtype != np.int32 or tokens.ndim != 1 or not tokens.size:
        return "an answer holds a row of tokens (I32)"
    if ends is None or ends.dtype != np.int32 or ends.ndim != 1 or not ends.size or ends[-1] != tokens.size:
        return "answers have ends (I32)"
    if (np.diff(ends.astype(np.int64), prepend=0) < 1).any():
        return "no answer is empty"
    if prompt is None or prompt.dtype != np.uint8 or prompt.shape != (_HASH,):
        return "an answer names its prompt by 32 bytes"
    if not {PLACES, VALUES} <= aux.keys() <= {PLACES, VALUES, LEAVES}:
        return "an answer comes with a fingerprint and nothing else"
    return ""


def _own_fault(start: Tensors, aux: Tensors) -> str:
    """What rules out what an auditor told. Its margins are of as many tokens as were claimed."""
    if not {PLACES, VALUES, PROMPT, MARGINS, ENDING} <= aux.keys():
        return "a replay tells of prompt, margins and ending"
    margins, ending, prompt = aux[MARGINS], aux[ENDING], aux[PROMPT]
    if prompt.dtype != np.uint8 or prompt.shape != (_HASH,):
        return "a replay names the prompt by 32 bytes"
    if margins.dtype != np.float32 or margins.shape != start[TOKENS].shape or ending.shape != start[ENDS].shape:
        return "margins are one for each token, endings one for each answer"
    numbers = np.concatenate([margins.astype(np.float64), ending.astype(np.float64)])
    if not np.isfinite(numbers).all() or not (margins.astype(np.float64) >= 0).all():
        return "margins are finite and not negative"
    return fingerprint.fault(_print(aux), aux[PLACES].shape)


def _print(aux: Tensors) -> Fingerprint:
    return Fingerprint(cast("fingerprint.Places", aux[PLACES]), cast("fingerprint.Values", aux[VALUES]))
