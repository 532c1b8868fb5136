"""How long a judge waits for what, and when a case needs its next look. Spec: specs/11-verification.md."""

from __future__ import annotations

from typing import Final

from protocol.units import MIB, MINUTE, SECOND, Micros
from verifier.case import (
    Auditing,
    Case,
    Checking,
    Decided,
    Fetching,
    Gathering,
    Opening,
    Quoting,
    Revealing,
    Scoring,
    Tracing,
    Unfolding,
)

INPUTS_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds to get a specification, which its steward and its provider both hold."""

BEACON_LOOK: Final = Micros(1 * SECOND)
"""Microseconds between two looks for a beacon that the ledger does not have yet."""

UNITS_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds for a provider to open leaves of its trace, in each of the two rounds; it keeps them ready."""

QUOTE_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds for a provider's hardware to sign: a CPU takes less than a second, eight cards in turn ten."""

REVEAL_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds for a provider to open its claim; it needs no work for that, only a connection."""

OPEN_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds for an auditor to open its seal."""

SCORE_TIMEOUT: Final = Micros(5 * MINUTE)
"""Microseconds to fetch and compare the states of one audit: 32 of 256 MiB at 30 MB/s."""

ASK_AGAIN: Final = Micros(5 * SECOND)
"""Microseconds until a question or a verdict that got no answer is sent again."""

FETCH_AGAIN: Final = Micros(2 * SECOND)
"""Microseconds between two tries to fetch."""

FETCH_TRIES: Final = 3
"""Tries until an output counts as undeliverable."""

PREFIX_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds for a provider to show who signed for a bad unit that it inherited; the leaves are in its own trace."""

AUDIT_FAILURES_MAX: Final = 6
"""Failures of auditors in one hearing before the claim is judged without it: who owns a third of the stake, and says
nothing, gets one claim of 700 through."""

AUDITOR_FAILURES_MAX: Final = 2
"""Of these, by one auditor: it is asked once more where nobody else can be, and then never again."""

UNREACHABLE_MAX: Final = 3
"""Auditors to whom the provider gave nothing, after which no more are sent."""

UNREACHABLE_MIN: Final = 2
"""Of these, if they are most of those who failed, prove it when there are no more auditors."""

AUDIT_SHARE: Final = 3
"""One audit gets at most this part of the time left, so that a second and a confirmation still fit."""

AUDIT_MARGIN: Final = Micros(2 * MINUTE)
"""Microseconds that a distant auditor gets on top of twice the chunk's time limit, for its queue and for inputs."""

VERDICT_MARGIN: Final = Micros(90 * SECOND)
"""Microseconds before the ledger's deadline at which waiting ends: one opening, one fetch, one block."""

OUTPUT_MARGIN: Final = 1 * MIB
"""Bytes on top of the stated size of an output: its manifest."""

SPEC_BYTES_MAX: Final = 16 * MIB
"""Bytes of an encoded specification."""

RESULTS_BYTES_MAX: Final = 64 * 1024
"""Bytes of an auditor's encoded results: 32 units of some 200 bytes each."""


def last_look(case: Case) -> Micros:
    """When waiting ends, on our clock."""
    return Micros(case.due - VERDICT_MARGIN)


def next_look(case: Case) -> Micros:
    """When this case needs a look if nothing comes in."""
    match case.state:
        case Gathering(until=until, asked=asked) if case.facts is not None:
            return Micros(min(until, asked + BEACON_LOOK))
        case (
            Gathering(until=until, asked=asked)
            | Revealing(until=until, asked=asked)
            | Unfolding(until=until, asked=asked)
            | Quoting(until=until, asked=asked)
            | Tracing(until=until, asked=asked)
        ):
            return Micros(min(until, asked + ASK_AGAIN))
        case Auditing(until=until) | Checking(until=until) | Opening(until=until) | Scoring(until=until):
            return until
        case Fetching(again=again):
            return last_look(case) if again is None else again
        case Decided(sent=sent):
            return Micros(sent + ASK_AGAIN)
