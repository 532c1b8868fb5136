"""What the HTTP API says of one step of a job: its attempts, its protection, and what it survived."""

from __future__ import annotations

from msgspec import Struct


class Attempt(Struct):
    """One lease of a chunk."""

    epoch: int = 0
    provider: str | None = None
    started: int | None = None
    ended: int | None = None
    end: str | None = None
    step: int = 0
    """The step of the snapshot that it began from; 0: the beginning."""
    reached: int = 0
    """The last step that it told of."""


class Recovery(Struct):
    """A chunk that went on elsewhere."""

    epoch: int = 0
    """Of the attempt that went on."""
    reached: int = 0
    """The last step that the lost attempt told of."""
    step: int = 0
    """The step from which the next one went on."""
    seconds: float | None = None
    """From the last beat of the lost attempt (one comes each second) until the program of the next had the state of
    `step` and went on; the first new step ends later. Null: not known, or not yet."""


class ChunkStatus(Struct):
    """One step of a job; the reduce step is the last."""

    index: int
    state: str = "waiting"
    epoch: int = 0
    provider: str | None = None
    executor: str | None = None
    price: int | None = None
    outcome: str | None = None
    code: str | None = None
    sentence: str = ""
    """What was found, in words; empty while nobody has judged."""
    fault: str = ""
    """Whose doing that is: `provider`, `auditor`, `job`, `network`, `nobody`."""
    fix: str = ""
    """What to do about it."""
    score: float | None = None
    """Of a comparison within a tolerance; null: bits were compared, or nothing."""
    evidence: str = ""
    """Digest of what the newest verdict rests on."""
    held_until: int = 0
    """Until when somebody may appeal against it; 0: it is final, or there is none."""
    appeal: str = ""
    """`open` while a panel decides, `ruled` after; empty: nobody has appealed."""
    is_audited: bool | None = None
    auditor: str | None = None
    output: str | None = None
    step: int = 0
    """The step of the newest durable snapshot; a lost provider costs at most what came after it."""
    progress_ppm: int = 0
    snapshot_bytes: int = 0
    is_protected: bool = False
    """Whether a snapshot of it was restored in a rehearsal and came out equal."""
    tier: str = ""
    """What the newest durable snapshot holds: `framework`, `application` or `process`; empty: there is none."""
    protection: str = ""
    """`protected`, or why not."""
    kept: str = ""
    """Where the newest durable snapshot is, in its provider's words."""
    snapshot_taken: int | None = None
    lost_now_s: float | None = None
    """Seconds of work that are lost if the provider dies now; null while nothing is computed."""
    standby: str = ""
    """The peer that goes on then; empty: it is chosen when it happens."""
    recoveries: list[Recovery] = []
    attempts: list[Attempt] = []
