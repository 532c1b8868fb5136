"""Answers of the driver to a machine's `Compute`, and what the node's own owner asks for. They never cross a wire."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.units import Digest, JobId


@dataclass(frozen=True, slots=True)
class Fetched:
    """The blob is here, complete, and hashes to its digest."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """No source delivered the blob."""

    digest: Digest
    reason: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Inputs are in place and the sandbox runs."""

    task: str
    executor: str


@dataclass(frozen=True, slots=True)
class RunLog:
    """Complete lines that a task wrote, in order."""

    task: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunDone:
    """A task ended. `reason`: ok | exit | timeout | memory | disk | stopped | sandbox | inputs."""

    task: str
    reason: str
    exit_code: int
    output: Digest
    """The digest of the output manifest blob (all zero when `reason` is not `ok`)."""
    output_bytes: int
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class ConfirmJob:
    """The renter agrees to the quote: fund the escrow and go."""

    job: JobId


@dataclass(frozen=True, slots=True)
class CancelJob:
    """The renter wants no more of it."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Drain:
    """The owner wants the machine back: finish (or give back) leases and take no new ones."""

    finish_running: bool


Completion = Fetched | FetchFailed | RunStarted | RunLog | RunDone | ConfirmJob | CancelJob | Drain
