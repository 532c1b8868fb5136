"""What a quote is allowed to change: bound to node, job, claim and beacon, it lowers how often a result is audited.

It never replaces stake and never lowers the rate below the floor: it says which machine signed, not what was computed.
Spec: specs/40-attestation.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import Refused
from verifier.attestation.quote import Maker, Quote

DISCOUNT: Final = 2
"""An attested result is audited at this fraction of the rate, the floor permitting: the interposers that break such
hardware cost less than a thousand dollars, so the evidence is worth something and never much."""

_FIX: Final = "Ask the hardware for a quote over `binding(...)` of this very claim."


@dataclass(frozen=True, slots=True)
class Policy:
    """What a network takes for evidence. Empty: nothing."""

    measurements: Mapping[Maker, Collection[bytes]] = field(default_factory=dict)
    """Images that may be measured, per maker."""
    versions_min: Mapping[Maker, tuple[int, ...]] = field(default_factory=dict)
    """Least security version of each part of a platform; shorter is padded with zeros."""


def check(policy: Policy, quotes: Collection[Quote], bound: bytes) -> None:
    """That a claim has its evidence: a CPU's quote, and a GPU's where a GPU's image is listed.

    Raises `Refused`: `stale_nonce`, `debug_machine`, `unknown_image`, `outdated_platform`, `missing_quote`."""
    for quote in quotes:
        _check_one(policy, quote, bound)
    makers = {quote.maker for quote in quotes}
    if not makers & {"tdx", "sev-snp"}:
        raise Refused(
            "a GPU alone says nothing of the program that feeds it", code="missing_quote", fix="Add the CPU's quote."
        )
    if policy.measurements.get("nvidia") and "nvidia" not in makers:
        raise Refused("the GPU's quote is missing", code="missing_quote", fix="Add the GPU's report.")


def _check_one(policy: Policy, quote: Quote, bound: bytes) -> None:
    wanted = bound.ljust(len(quote.report_data), b"\0")
    if quote.report_data != wanted:
        raise Refused(
            f"the {quote.maker} quote carries {quote.report_data[:8].hex()}…, this claim needs {bound[:8].hex()}…",
            code="stale_nonce",
            fix=_FIX,
        )
    if quote.is_debug:
        raise Refused(f"the {quote.maker} machine may be debugged", code="debug_machine", fix="Start it without.")
    if quote.measurement not in policy.measurements.get(quote.maker, ()):
        raise Refused(
            f"nobody here knows the image {quote.measurement[:8].hex()}…",
            code="unknown_image",
            fix="Run a listed image.",
        )
    least = policy.versions_min.get(quote.maker, ())
    has = quote.versions + (0,) * (len(least) - len(quote.versions))
    if any(mine < needed for mine, needed in zip(has, least, strict=False)):
        raise Refused(
            f"the {quote.maker} platform has versions {has}, {least} are needed",
            code="outdated_platform",
            fix="Update it.",
        )


def attested_ppm(rate: int, floor: int) -> int:
    """The audit rate of a result with evidence, parts per million.

    >>> attested_ppm(1_000_000, 100_000), attested_ppm(150_000, 100_000)
    (500000, 100000)
    """
    return max(min(rate, floor), rate // DISCOUNT)
