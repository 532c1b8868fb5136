"""How sure a renter wants to be of results, in levels, and what each costs and catches. Spec: specs/39-trust.md.

Pure integer arithmetic in parts per million. A level replaces `audit_ppm` and raises what the job's proof says; without
a level both hold as they are. No level and no reputation ever brings the share of audited results to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from protocol.jobspec import JobSpec
from protocol.operations import COMMISSION_PPM
from protocol.policy import Policy
from protocol.proof import Proof
from protocol.units import PPM, Credits

Level = Literal["basic", "standard", "high", "certain"]

LEVEL_NAMES: Final[tuple[Level, ...]] = get_args(Level)
"""From the least sure to the surest."""

COLLUSION_PPM: Final = 200_000
"""Share of auditors that may be the provider's own, ppm, in every figure that is shown (specs/32-economics.md)."""

STAKE_RATIO_MAX: Final = 1_000
"""Stake in prices that a level can ask for at most; a floor of zero would ask for infinitely much."""

FAILURE_SHARE: Final = 200_000
"""Share of failed results in the whole network, ppm, above which more is audited (features A1: 20 %)."""

FAILURE_RESULTS: Final = 50
"""Results that a failure rate is taken from at least: 20 % of fewer is no more than bad luck of one machine."""

AUDIT_DEFAULT: Final = 100_000
"""What `audit_ppm` of a specification is that does not say it."""

FIXED: Final = 3
"""Units that are replayed in any case where there are samples enough (`verifier.challenge.FIXED`)."""

SURE_PPM: Final = 300_000
"""Share of audited claims from which on leases set the whole cost of an audit aside, ppm. Below it nearly all of that
would only wait and come back; auditing is what those with stake do for each other then, for part of the commission."""

AUDITED_PPM: Final = COMMISSION_PPM * Policy().audit_fee // PPM
"""Share of the price that the auditors of a result get out of its commission, ppm (specs/32-economics.md)."""

FRACTIONS: Final = (10_000, 50_000, 100_000, 500_000, PPM)
"""Shares of a chunk that a cheat leaves out, ppm, for which the chance to catch it is shown."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is done about one claim."""

    level: Level | None
    """None: the job says `audit` and `proof` itself."""
    floor_ppm: int
    """Share of claims that is audited at least, whoever the provider is."""
    auditors: int
    """Who must agree with a drawn claim."""
    samples: int
    """Units that each of them replays, where the chunk has units."""


LEVELS: Final[Mapping[Level, Terms]] = {
    "basic": Terms("basic", 50_000, 1, 4),
    "standard": Terms("standard", 100_000, 1, 8),
    "high": Terms("high", 300_000, 2, 16),
    "certain": Terms("certain", PPM, 3, 32),
}
"""`standard` has the owner's 10 %; `certain` audits every claim by three, so that one in 125 is a colluding panel."""


def terms(spec: JobSpec) -> Terms:
    """What holds for every claim of a job. Nobody can execute again what its renter reaches into: its floor is 0."""
    proof = spec.proof if isinstance(spec.proof, Proof) else None
    auditors, samples = (proof.auditors, proof.samples) if proof is not None else (1, 1)
    if isinstance(spec.trust, str):
        level = LEVELS[spec.trust]
        found = replace(level, auditors=max(level.auditors, auditors), samples=max(level.samples, samples))
    else:
        found = Terms(None, spec.audit_ppm, auditors, samples)
    samples = min(found.samples, spec.units) if spec.units else 1
    return replace(found, floor_ppm=0 if spec.is_interactive else found.floor_ppm, samples=samples)


def problem(spec: JobSpec) -> tuple[str, str, str] | None:
    """What is wrong with a level in this job: JSON pointer, cause, fix (`protocol.jobrules` refuses it)."""
    if not isinstance(spec.trust, str):
        return None
    if spec.is_interactive:
        cause = "a chunk that its renter can reach into is never audited: no level of trust can be kept"
        return "/trust", cause, "Leave `trust` out, or `ports` and `shell`."
    if spec.audit_ppm not in (AUDIT_DEFAULT, LEVELS[spec.trust].floor_ppm):
        share = f"{spec.audit_ppm / 10_000:g} %"
        cause = f"`trust: {spec.trust}` says how many results are audited, and `audit` says {share}"
        return "/audit_ppm", cause, "Leave one of the two out."
    return None


def replayed_ppm(asked: Terms, units: int) -> int:
    """Share of a chunk's work that one auditor does again.

    >>> replayed_ppm(LEVELS["high"], 48), replayed_ppm(LEVELS["high"], 0)
    (333333, 1000000)
    """
    return PPM if units == 0 else min(units, asked.samples) * PPM // units


def evidence_ppm(asked: Terms, units: int) -> int:
    """Expected work of all auditors of a claim, in ppm of the chunk's own: audit share × auditors × share replayed.

    >>> [evidence_ppm(LEVELS[name], 48) for name in LEVEL_NAMES]
    [4166, 16666, 199999, 1999998]
    """
    return asked.floor_ppm * asked.auditors * replayed_ppm(asked, units) // PPM


def surcharge_ppm(asked: Terms, units: int) -> int:
    """What the evidence costs beyond the commission, in ppm of the price and on the average. Where audits are sure, all
    that auditors do and are not paid for out of the commission; elsewhere what is more than the commission itself.

    >>> [surcharge_ppm(LEVELS[name], 0) for name in LEVEL_NAMES]
    [0, 0, 582000, 2940000]
    """
    if asked.floor_ppm < SURE_PPM:
        return max(0, evidence_ppm(asked, units) - COMMISSION_PPM)
    return asked.floor_ppm * max(0, asked.auditors * replayed_ppm(asked, units) - AUDITED_PPM) // PPM


def surcharge(price: int, asked: Terms, units: int) -> Credits:
    """The same for a chunk at `price`, on the average, rounded up, smallest units."""
    return Credits(-(-price * surcharge_ppm(asked, units) // PPM))


def evidence_price(price: int, asked: Terms, units: int) -> Credits:
    """What a lease at `price` sets aside for whoever audits its result, smallest units: paid when it is audited, back
    with the renter when it is not. At the level's own share of audits that makes the surcharge, on the average.

    >>> [evidence_price(1_000_000, LEVELS[name], 0) for name in LEVEL_NAMES]
    [0, 0, 1940000, 2940000]
    """
    if not asked.floor_ppm:
        return Credits(0)
    return Credits(-(-price * surcharge_ppm(asked, units) // asked.floor_ppm))


def price_within(total: int, asked: Terms, units: int) -> Credits:
    """The price of a chunk for which `total` is price and evidence together.

    >>> price_within(1_000_000 + 1_940_000, LEVELS["high"], 0)
    1000000
    """
    if not asked.floor_ppm:
        return Credits(total)
    return Credits(total * asked.floor_ppm // (asked.floor_ppm + surcharge_ppm(asked, units)))


def hit_ppm(units: int, bad: int, samples: int) -> int:
    """Chance that at least one of `samples` different units out of `units` is among the `bad` ones, rounded down.

    >>> hit_ppm(44, 5, 12), hit_ppm(1000, 100, 44), hit_ppm(10, 1, 10)
    (814572, 991298, 1000000)
    """
    if bad <= 0:
        return 0
    miss, scale = 1, 1
    for drawn in range(min(samples, units)):
        miss, scale = miss * max(0, units - bad - drawn), scale * (units - drawn)
    return PPM - -(-miss * PPM // scale)


def panel_ppm(auditors: int, collusion_ppm: int = COLLUSION_PPM) -> int:
    """Chance that not all auditors of a claim are its provider's own: one honest among them is enough.

    >>> [panel_ppm(count) for count in (1, 2, 3)]
    [800000, 960000, 992000]
    """
    own, scale = int(collusion_ppm**auditors), int(PPM**auditors)
    return PPM - -(-own * PPM // scale)


def uniform(samples: int) -> int:
    """Of so many samples, those that are drawn by lot.

    >>> [uniform(samples) for samples in (1, 2, 4, 32)]
    [1, 1, 1, 29]
    """
    return samples - min(FIXED, samples - 1)


def caught_ppm(asked: Terms, units: int, fraction_ppm: int) -> int:
    """Chance that a provider is caught, at the least share of audits, who leaves out this share of one chunk's units
    and avoids those that are replayed in any case.

    >>> [caught_ppm(LEVELS[name], 48, 500_000) for name in LEVEL_NAMES]
    [20000, 78014, 287996, 992000]
    """
    if units:
        hit = hit_ppm(units, -(-units * fraction_ppm // PPM), uniform(min(units, asked.samples)))
    else:
        hit = PPM if fraction_ppm else 0
    return asked.floor_ppm * hit * panel_ppm(asked.auditors) // PPM**2


def caught_in_job_ppm(per_chunk_ppm: int, chunks: int) -> int:
    """Chance that at least one of `chunks` claims is caught; a provider who cheats on all of them stakes on that.

    >>> caught_in_job_ppm(80_000, 12)
    632333
    """
    miss, scale = int((PPM - per_chunk_ppm) ** chunks), int(PPM**chunks)
    return PPM - -(-miss * PPM // scale)


def stake_min(price: int, asked: Terms, gain_ppm: int = PPM, collusion_ppm: int = COLLUSION_PPM) -> Credits:
    """Stake that makes leaving out a whole chunk a loss: S > g / (p (1 − r^m)) − R. `gain_ppm`: g in prices, at most
    one. Full slash on any hit makes smaller cheats no better (the chance is concave in the share).

    >>> [stake_min(1_000_000, LEVELS[name]) for name in LEVEL_NAMES]
    [24000000, 11500000, 2472223, 8065]
    """
    sure = asked.floor_ppm * panel_ppm(asked.auditors, collusion_ppm) // PPM
    if sure <= 0:
        return Credits(price * STAKE_RATIO_MAX)
    return Credits(min(price * STAKE_RATIO_MAX, max(0, -(-price * gain_ppm // sure) - price)))


def expected_gain(price: int, stake: int, asked: Terms, gain_ppm: int = PPM, collusion_ppm: int = COLLUSION_PPM) -> int:
    """What cheating on a whole chunk brings over honest work, in smallest units: negative where `stake_min` is met."""
    sure = asked.floor_ppm * panel_ppm(asked.auditors, collusion_ppm) // PPM
    return (price * gain_ppm - sure * (price + stake)) // PPM


def floor_under_failures(floor_ppm: int, failed: int, results: int) -> int:
    """The floor while too many results of the whole network fail (features A1): it grows with the failure rate, five
    times the floor at a rate of 100 %, and is the plain floor again at 20 % and below.

    >>> [floor_under_failures(100_000, failed, 100) for failed in (20, 30, 60, 100)]
    [100000, 150000, 300000, 500000]
    """
    if results < FAILURE_RESULTS or failed * PPM <= results * FAILURE_SHARE:
        return floor_ppm
    return min(PPM, floor_ppm * min(failed, results) * PPM // (results * FAILURE_SHARE))


def share_of_draws_ppm(stakes: Mapping[str, int], mine: frozenset[str], cap: int) -> int:
    """Expected share of audits that peers `mine` get in a draw by min(stake, cap): splitting one stake over many
    identities brings nothing below the cap, and identities without stake bring nothing at all."""
    weights = {peer: min(cap, max(0, stake)) for peer, stake in stakes.items()}
    whole = sum(weights.values())
    return sum(weight for peer, weight in weights.items() if peer in mine) * PPM // whole if whole else 0
