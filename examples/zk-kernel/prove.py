"""Computes the kernel for one chunk, and proves it: `python prove.py BUILD OUT`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import ezkl
from kernel import sample, settle


async def prove(build: Path, out: Path, number: int) -> None:
    """Leaves OUT/proof.json: the proof, and with it input and output."""
    given, witness = out / "input.json", out / "witness.json"
    given.write_text(json.dumps({"input_data": [sample(number)]}))
    await settle(ezkl.gen_witness(str(given), str(build / "circuit"), str(witness)))
    proof = str(out / "proof.json")
    await settle(ezkl.prove(str(witness), str(build / "circuit"), str(build / "pk"), proof, str(build / "srs")))
    given.unlink()
    witness.unlink()


if __name__ == "__main__":
    asyncio.run(prove(Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["SHOAL_CHUNK"])))
