"""Checks a proof: `python verify.py BUILD RESULT`. It holds for exactly the input of this chunk, or it is refused."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import ezkl
from kernel import INPUTS, OUTPUTS, sample, settle


async def check(build: Path, result: Path, number: int) -> str:
    """What is wrong; empty when the proof holds."""
    proof, settings = result / "proof.json", build / "settings.json"
    scale = json.loads(settings.read_text())["model_input_scales"][0]
    numbers = [ezkl.felt_to_int(felt) for row in json.loads(proof.read_text())["instances"] for felt in row]
    if len(numbers) != INPUTS + OUTPUTS:
        return f"{len(numbers)} public numbers instead of {INPUTS + OUTPUTS}"
    wanted = [ezkl.felt_to_int(ezkl.float_to_felt(value, scale)) for value in sample(number)]
    if numbers[:INPUTS] != wanted:
        return "a proof about another input"
    try:
        holds = await settle(ezkl.verify(str(proof), str(settings), str(build / "vk"), str(build / "srs")))
    except RuntimeError as error:
        return f"no proof: {error}"
    return "" if holds else "the proof does not hold"


if __name__ == "__main__":
    said = asyncio.run(check(Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["SHOAL_CHUNK"])))
    sys.exit(said or 0)
