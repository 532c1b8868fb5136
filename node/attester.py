"""What this machine can show of itself: quotes of its CPU, reports of its cards. One at a time, never in a hurry.

Evidence that does not come is no fault: the result is audited like any other. Spec: specs/40-attestation.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio

from node import card_reports
from node.config import Config
from node.findings import Check, check
from node.tsm import FOLDER, Door
from protocol.completions import Attested
from protocol.effects import Attest
from protocol.errors import Refused, ShoalError, Unavailable
from protocol.quote_messages import CpuQuote, Evidence, GpuReport
from verifier.attestation.evidence import measurement

PATIENCE_S: Final = 25.0
"""Seconds until hardware that does not answer counts as none: the judge waits for thirty."""

CERTIFICATES: Final = "attestation"
"""Below the node's data: certificates that its host does not hand out."""

OFF: Final = "off"
AUTO: Final = "auto"

log = logging.getLogger("shoal.attester")


def door(attestation: str, data: Path) -> Door | None:
    """Where a node has quotes made, by its setting and its data folder; None where its owner wants none."""
    if attestation == OFF:
        return None
    return Door(FOLDER if attestation == AUTO else Path(attestation), data / CERTIFICATES)


def of(config: Config) -> Attester:
    """The one that a configuration asks for."""
    return Attester(door(config.attestation, config.data), config.attestation_python)


@dataclass(slots=True)
class Attester:
    """Makes evidence; one per node."""

    door: Door | None
    sdk: Path | None = None
    """The interpreter that has NVIDIA's SDK; None: the driver is asked directly."""
    _turn: trio.Lock = field(default_factory=trio.Lock)

    async def attest(self, work: Attest) -> Attested:
        """The answer to a machine's question, within PATIENCE_S. Never raises for what the hardware does."""
        try:
            with trio.fail_after(PATIENCE_S):
                async with self._turn:
                    evidence = await trio.to_thread.run_sync(self._evidence, work, abandon_on_cancel=True)
        except ShoalError as error:
            log.info("no evidence: %s", error.detail)
            return Attested(work.lease, None, error.detail)
        except trio.TooSlowError:
            return Attested(work.lease, None, f"the hardware took longer than {PATIENCE_S:g} s")
        return Attested(work.lease, evidence)

    def _evidence(self, work: Attest) -> Evidence:
        if self.door is None or not self.door.is_there:
            raise Unavailable("this machine has no trusted hardware", code="no_quote")
        cpu = self.door.sign(work.bound)
        if cpu.kind not in work.kinds:
            raise Refused(f"the job takes no quotes of {cpu.kind}", code="no_quote")
        made = Evidence(cpu, self._cards(work.bound) if "nvidia" in work.kinds else ())
        try:
            return msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Evidence)
        except msgspec.ValidationError as error:  # Whoever sends more than a message may hold is to blame for it.
            raise Unavailable(f"what the hardware gave cannot be sent: {error}", code="no_quote") from error

    def _cards(self, nonce: bytes) -> tuple[GpuReport, ...]:
        found = card_reports.from_sdk(self.sdk, nonce) if self.sdk is not None else card_reports.from_driver(nonce)
        return card_reports.without_repeats(found)


def check_hardware(attestation: str, data: Path) -> Check:
    """What there is, for the doctor; the image that this machine measures, for whoever writes job files."""
    name, here = "trusted hardware", door(attestation, data)
    if here is None:
        return check(name, "ok", "not offered (attestation = off)")
    if not here.is_there:
        if attestation == AUTO:
            return check(name, "ok", "none: results are audited as usual")
        fix = "Correct `attestation`, or leave it out: `auto` finds what the kernel has."
        return check(name, "warn", f"there is no {here.folder}", fix)
    try:
        quote = here.sign(bytes(32))
        return check(name, "ok", f"{quote.kind} signs here; the image is {_image(quote)}")
    except ShoalError as error:
        return check(name, "warn", error.detail, error.fix)


def _image(quote: CpuQuote) -> str:
    return measurement(quote).hex()
