"""The parameters of every method of the control socket. Times are integer microseconds, money is in smallest units."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.overlay.tunnel import COMMAND_CHARS_MAX, TERM
from protocol.overlay.tunnel_frames import SIDE_MAX

PART_BYTES_MAX: Final = 4 << 20
"""One part of a blob, 4 MiB: half a frame."""

PAGE_MAX: Final = 500
"""Jobs in one answer of `job.list`."""

NOTICE: Final = 10_000_000
"""Microseconds that running work gets to leave, unless the owner says another time (features N7)."""

NOTICE_MAX: Final = 120_000_000
"""Microseconds: whoever has more time lets work finish (`node.drain`)."""

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Amount = Annotated[int, Meta(ge=1, le=2**62)]
Counter = Annotated[int, Meta(ge=0, le=2**62)]


class NoParams(Struct, frozen=True, forbid_unknown_fields=True):
    """node.status, .peers, .earnings, .stop, network.status, market.pricing, .queue, .cluster."""


class PriceParams(Struct, frozen=True, forbid_unknown_fields=True):
    """node.price: None only asks."""

    per_hour: Counter | None = None


class DrainParams(Struct, frozen=True, forbid_unknown_fields=True):
    """node.drain: stop taking leases, or `resume`."""

    finish_running: bool = True
    resume: bool = False


class ReclaimParams(Struct, frozen=True, forbid_unknown_fields=True):
    """node.reclaim: `notice` in microseconds, at most two minutes."""

    notice: Annotated[int, Meta(ge=0, le=NOTICE_MAX)] = NOTICE


class EventsParams(Struct, frozen=True, forbid_unknown_fields=True):
    """node.events: events with a sequence greater than `since`; None = only new ones."""

    since: Counter | None = None


class BlobBeginParams(Struct, frozen=True, forbid_unknown_fields=True):
    """blob.begin: an upload of `size` bytes."""

    size: Counter


class BlobPartParams(Struct, frozen=True, forbid_unknown_fields=True):
    """blob.part: the next bytes; `offset` must be where the upload stands."""

    upload: Id
    offset: Counter
    data: Annotated[bytes, Meta(max_length=PART_BYTES_MAX)]


class BlobEndParams(Struct, frozen=True, forbid_unknown_fields=True):
    """blob.end: hash and keep."""

    upload: Id


class BlobGetParams(Struct, frozen=True, forbid_unknown_fields=True):
    """blob.get: `size` bytes from `offset`."""

    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    offset: Counter = 0
    size: Annotated[int, Meta(ge=1, le=PART_BYTES_MAX)] = PART_BYTES_MAX


class RenterCreateParams(Struct, frozen=True, forbid_unknown_fields=True):
    """renter.create: idempotent by name."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]


class RenterParams(Struct, frozen=True, forbid_unknown_fields=True):
    """renter.balance."""

    renter: Id


class RenterDepositParams(Struct, frozen=True, forbid_unknown_fields=True):
    """renter.deposit: idempotent by reference."""

    renter: Id
    amount: Amount
    reference: Annotated[str, Meta(min_length=1, max_length=255)]


class JobPlanParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.plan: `spec` as `protocol.jobcodec` writes it."""

    spec: dict[str, object]
    renter: Id


class JobSubmitParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.submit: idempotent by renter and key."""

    spec: dict[str, object]
    renter: Id
    key: Annotated[str, Meta(min_length=1, max_length=255)]


class JobParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.confirm, job.cancel, job.status, job.result, job.receipt."""

    job: Id


class JobExtendParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.extend: a higher spend cap, a longer chunk timeout."""

    job: Id
    spend_cap: Amount | None = None
    timeout: Amount | None = None


class JobEvidenceParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.evidence: every decided claim of the job, or of one chunk."""

    job: Id
    chunk: Annotated[int, Meta(ge=0, le=4096)] | None = None


class JobAppealParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.appeal: contest the newest decision about a chunk's claim, or about the claim of `epoch`."""

    job: Id
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=0, le=1_000)] = 0
    bond: Counter = 0
    """Smallest units; 0: the least that the round asks for."""
    rival: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Root of the trace that the appellant stands for; the third round needs one."""
    speaker: Annotated[str, Meta(max_length=64)] = ""
    """Peer id of the node that opens that trace; empty: the appellant."""
    replay: bool = False
    """Let this node execute the chunk first, and appeal only where it got something else."""


class JobReplayParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.replay: execute a chunk again that may be contested, and keep the trace."""

    job: Id
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=0, le=1_000)] = 0


class JobListParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.list: newest first."""

    renter: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 50
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class JobLogsParams(Struct, frozen=True, forbid_unknown_fields=True):
    """job.logs: lines with a sequence greater than `since`; `follow` waits for more until the job ends."""

    job: Id
    since: Counter | None = None
    follow: bool = False


class TunnelParams(Struct, frozen=True, forbid_unknown_fields=True):
    """tunnel.open: to `port` of a running chunk, or to a shell beside it (`port` 0). Keeps the connection.

    Without `ticket` the job must be this node's own; a ticket comes with the provider that it is for."""

    job: Annotated[str, Meta(max_length=128)] = ""
    chunk: Annotated[int, Meta(ge=0, le=4096)] = 0
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    command: Annotated[str, Meta(max_length=COMMAND_CHARS_MAX)] = ""
    has_terminal: bool = True
    rows: Annotated[int, Meta(ge=1, le=SIDE_MAX)] = 24
    columns: Annotated[int, Meta(ge=1, le=SIDE_MAX)] = 80
    term: Annotated[str, Meta(pattern=TERM)] = "xterm-256color"
    provider: Annotated[str, Meta(max_length=128)] = ""
    ticket: Annotated[bytes, Meta(max_length=1_024)] = b""


class TicketParams(Struct, frozen=True, forbid_unknown_fields=True):
    """tunnel.ticket: lets the node `bearer` reach `port` (0 = the shell) for `seconds`."""

    job: Id
    bearer: Id
    chunk: Annotated[int, Meta(ge=0, le=4096)] = 0
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    seconds: Annotated[int, Meta(ge=1, le=3_600)] = 600
