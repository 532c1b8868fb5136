"""What the HTTP API says of proof: the trust that a job asks for with its price, decided claims, and appeals."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class AppealRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Contest the newest decision about a chunk's claim. The bond is lost if the panel finds the same."""

    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=0, le=1_000)] = 0
    """Of the claim; 0: the newest."""
    bond: Annotated[int, Meta(ge=0, le=2**62)] = 0
    """0: the least that the round asks for."""
    rival: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Root of the trace that you stand for; the third round needs one."""
    speaker: Annotated[str, Meta(max_length=64)] = ""
    """Peer id of the node that opens that trace in the game: one of yours that executed the chunk (`job.replay`)."""
    replay: bool = False
    """Have the gateway's node execute the chunk first, and appeal only if it got something else. While it computes the
    answer says `replay: running`, and nothing is staked: ask again."""


class EvidenceQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Of which chunk; all unless said."""

    chunk: Annotated[int, Meta(ge=0, le=4096)] | None = None


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class Caught(Struct):
    """The chance to catch a provider that leaves out a share of the work."""

    left_out: float
    per_chunk: float = 0.0
    """On one chunk, when audits are at their rarest."""
    in_job: float = 0.0
    """On one of all chunks, if it does so on each."""


class Trust(Struct):
    """What is done about each claim of a job, what that catches, and what it costs. Shares are from 0 to 1."""

    level: str = ""
    """`basic`, `standard`, `high`, `certain`; empty: the job says `audit` itself."""
    kind: str = ""
    """Class of the job's proof; empty: outputs are compared as hashes."""
    numeric: str = ""
    units: int = 0
    """Units of a chunk; 0: the whole chunk is one."""
    audited: float = 0.0
    """Share of claims that is audited at least."""
    auditors: int = 1
    samples: int = 0
    """Units that each auditor replays."""
    replayed: float = 1.0
    """The same as a share of the chunk."""
    caught: list[Caught] = []
    evidence: float = 0.0
    """Expected work of all auditors, in chunks."""
    surcharge: float = 0.0
    """What of that the commission does not cover, as a share of the price."""
    surcharge_per_chunk: int = 0
    """The same in money, on the average."""
    set_aside_per_chunk: int = 0
    """What a lease sets aside for its auditor: paid when the result is audited, refunded when it is not."""
    stake_min: int = 0
    """Stake that makes cheating on a whole chunk a loss."""
    deterred: int | None = None
    """Of the candidates of a plan, those that have it."""
    candidates: int | None = None


class Claim(Struct):
    """A decided claim, as the ledger holds it."""

    chunk: int
    epoch: int = 0
    provider: str = ""
    verdict: str = ""
    finding: str = ""
    """What holds now."""
    code: str = ""
    sentence: str = ""
    fault: str = ""
    """Whose: `provider`, `auditor`, `job`, `network`, `nobody`."""
    fix: str = ""
    price: int = 0
    collateral: int = 0
    is_audited: bool = False
    auditor: str = ""
    agreed: list[str] = []
    """Auditors beside it who found the same: they share what audits are paid."""
    refuted: list[str] = []
    """Auditors whose sealed result two others refuted."""
    blamed: int = 0
    """The earlier lease, by its epoch, whose units were bad: `provider` is its provider then. 0: the claim's own."""
    claimant: str = ""
    """Who made the claim, where another is blamed: it loses nothing."""
    held_until: int = 0
    """Until when somebody may appeal; 0: it is final."""
    end: str = ""
    """`paid`, `slashed`, `unpaid`, `forfeited`; empty: not final."""
    round: int = 0
    rounds: int = 0
    """Rulings so far, and at most."""
    appellant: str = ""
    bond: int = 0
    bond_min: int = 0
    """What the next appeal stakes at least; 0: there is none."""
    rule_by: int = 0
    rival: str = ""
    """Root of the trace that the newest appeal stands for, where it names one."""
    speaker: str = ""
    """Which node opens it; empty: the appellant."""
    replay: str = ""
    """`running` while the chunk is executed before the appeal, which is not made yet: ask again."""
    trace: str = ""


class Decision(Struct):
    """A signed decision of the ledger's log: a verdict, an appeal, a ruling."""

    time: int = 0
    chunk: int = 0
    epoch: int = 0
    what: str = ""
    """`verdict`, `appeal`, `upheld`, `overturned`."""
    finding: str = ""
    code: str = ""
    sentence: str = ""
    fault: str = ""
    fix: str = ""
    is_audited: bool = False
    peers: list[str] = []
    """Who executed it again, or who appealed."""
    score: float | None = None
    """Of a comparison within a tolerance; null: bits were compared, or nothing."""
    output: str = ""
    evidence: str = ""
    """Digest of what the decision rests on."""
    bond: int = 0
    round: int = 0


class Piece(Struct):
    """The next bytes of a file that the node streams."""

    data: bytes


class Evidence(Struct):
    """Why claims of a job were judged so."""

    job: str
    has_policy: bool = False
    """Whether this network holds pay until a dispute window ends; without, verdicts are final."""
    claims: list[Claim] = []
    decisions: list[Decision] = []
