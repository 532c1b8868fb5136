"""The opened units of a job against its receipt: does what was opened say what the judges signed? Nobody is asked.

The receipt proves claims and verdicts. This file has what a judge was shown about them: leaves of the provider's trace,
seals and results of the auditors, and the parts of the beacon that drew the units (`verifier.recheck`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec import UNSET

from protocol import dossier, dossier_file, wire
from protocol.block import header_hash
from protocol.dossier import Dossier
from protocol.dossier_file import SPEC_BYTES_MAX, OpenedClaim, OpenedJob
from protocol.errors import Refused, RemoteViolation
from protocol.genesis import Genesis
from protocol.jobspec import JobSpec
from protocol.messages import Header
from protocol.units import PeerId
from shoal.receipt_account import Account
from verifier import recheck
from verifier.beacon_proof import beacon_of
from verifier.views import Facts

NAMED_MAX: Final = 5
"""Claims that a message names; of the others it says how many they are."""

_NOBODY: Final = PeerId(bytes(32))
_spec: Final = wire.decoder(JobSpec)


@dataclass(slots=True)
class UnitsAccount:
    """What was opened of a job, and holds."""

    claims: int = 0
    """Of which something was opened."""
    judged: int = 0
    """That have a verdict."""
    units: int = 0
    """Under the roots of their claims, as the beacon drew them."""
    executions: int = 0
    """By auditors, that say what the verdicts say."""
    scored: int = 0
    """Of these, compared within a tolerance by the judges."""
    missing: dict[tuple[int, int], str] = field(default_factory=dict)
    """Chunk and epoch of claims of which too little is there, and why."""


class UnitsFile:
    """One file, checked frame by frame."""

    def __init__(self, account: Account, genesis: Genesis) -> None:
        self._account = account
        self._genesis = genesis
        self._facts: Facts | None = None
        self._seen: set[tuple[int, int]] = set()
        self._beacons: dict[bytes, bytes] = {}
        """Digest of the parts and the claim's block -> the beacon: many claims share one."""
        self.found = UnitsAccount(judged=len(account.verdicts))

    def add(self, item: OpenedJob | OpenedClaim) -> None:
        """The next frame. Raises `Refused` (`units_false`)."""
        if isinstance(item, OpenedJob):
            self._begin(item)
            return
        place = (item.chunk, item.epoch)
        if place not in self._account.verdicts:
            raise _false(f"chunk {item.chunk} epoch {item.epoch} has no verdict in the receipt, or that is older")
        if place in self._seen:
            raise _false(f"chunk {item.chunk} epoch {item.epoch} is in it twice")
        self._seen.add(place)
        if not item.dossier:
            self.found.missing[place] = item.why or "nothing was opened"
            return
        try:
            self._check(place, dossier.decode(item.dossier, _NOBODY))
        except RemoteViolation as error:
            raise _false(f"chunk {item.chunk} epoch {item.epoch}: {error.rule}") from error
        except Refused as error:
            if error.code != recheck.UNITS_GAP:
                raise
            self.found.missing[place] = error.detail.partition(": ")[2]

    def close(self) -> UnitsAccount:
        """All frames were there. Raises `Refused` (`units_gap`) where too little was opened of a claim."""
        for place, verdict in self._account.verdicts.items():
            if place not in self._seen:
                self.found.missing[place] = "it is not in the file"
            if not any(verdict.output) and not verdict.is_audited:
                self.found.missing.pop(place, None)  # The provider opened nothing: there is nothing to show.
        if self.found.missing:
            told = [f"chunk {chunk} epoch {epoch}: {why}" for (chunk, epoch), why in self.found.missing.items()]
            more = f"; and {len(told) - NAMED_MAX} more" if len(told) > NAMED_MAX else ""
            raise Refused(
                f"of {len(told)} of {self.found.judged} claims too little was opened: "
                f"{'; '.join(told[:NAMED_MAX])}{more}",
                code=recheck.UNITS_GAP,
                fix="Get it again with `shoal job evidence JOB --save FILE`: judges keep what was opened two weeks.",
                numbers={"missing": len(told), "claims": self.found.judged},
            )
        return self.found

    def _begin(self, item: OpenedJob) -> None:
        if item.chain != self._genesis.chain:
            raise _false(f"they are of network {item.chain!r}, the genesis file is of {self._genesis.chain!r}")
        if item.escrow != self._account.escrow_id:
            receipt = self._account.escrow_id.hex()[:16]
            raise _false(f"they are of escrow {item.escrow.hex()[:16]}, the receipt is of {receipt}")
        digest = wire.digest(item.spec)
        if digest != self._account.spec:
            raise _false(
                f"its specification has digest {digest.hex()[:16]}, the escrow names {self._account.spec.hex()[:16]}"
            )
        try:
            spec = wire.decode(item.spec, _spec, _NOBODY, SPEC_BYTES_MAX)
        except RemoteViolation as error:
            raise _false(f"its specification: {error.rule}") from error
        self._facts = Facts.of(digest, len(item.spec), spec)

    def _check(self, place: tuple[int, int], opened: Dossier) -> None:
        claimed, lease = self._account.claims.get(place), self._account.leases.get(place)
        if claimed is None or lease is None or self._facts is None:
            raise _false(f"the receipt has no claim of chunk {place[0]} epoch {place[1]}")
        claim, header = claimed
        beacon = self._beacon(opened, header)
        verdict = self._account.verdicts[place]
        ordered = recheck.Ordered(claim, verdict, PeerId(lease.provider), self._facts, beacon)
        shown = recheck.check(opened, ordered)
        self.found.claims += 1
        self.found.units += len(shown.units)
        self.found.executions += shown.executions
        self.found.scored += shown.scored

    def _beacon(self, opened: Dossier, header: Header) -> bytes:
        """What the units of a claim in this block are drawn from; empty where nothing was drawn."""
        policy = self._genesis.policy
        if policy is UNSET or not policy.has_beacon:
            return header_hash(header)
        if opened.units is UNSET or not opened.units.openings:
            return b""
        where = f"chunk {opened.chunk} epoch {opened.epoch}"
        if not opened.beacon:
            raise Refused(f"{where}: the beacon that drew its units is missing", code=recheck.UNITS_GAP)
        key = wire.digest(wire.encode((opened.beacon, header.height)))
        if key not in self._beacons:
            self._beacons[key] = beacon_of(opened.beacon, header, self._genesis.validator_set)
        return self._beacons[key]


def verify(account: Account, path: Path, genesis: Genesis) -> UnitsAccount:
    """Check a file of opened units beside a receipt that was checked. Raises `Refused`: `not_a_units_file`,
    `units_false` or `beacon_false` with what does not agree, `units_gap` with what is missing."""
    checked = UnitsFile(account, genesis)
    try:
        with path.open("rb") as stream:
            for item in dossier_file.frames(stream.read):
                checked.add(item)
    except OSError as error:
        raise Refused(
            f"{path} cannot be read: {error.strerror}", code="file_missing",
            fix="Give the file of `shoal job evidence JOB --save FILE`.",
        ) from error  # fmt: skip
    return checked.close()


def _false(what: str) -> Refused:
    return Refused(
        f"the opened units are false: {what}",
        code=recheck.UNITS_FALSE,
        fix="Get the file again, with the receipt, from the gateway that carried the job.",
    )
