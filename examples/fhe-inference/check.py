"""What a stranger can check without the key: that every answer is there and is a ciphertext of the right kind.

`python check.py SEND RESULT`. Whether the answers are right only the renter can tell, by the canaries.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import tenseal
from model import CLASSES

BYTES_MAX = 1 << 20
"""Of one answer: a quarter of it is usual."""


def check(send: Path, result: Path, chunk: int, chunks: int) -> str:
    """What is wrong; empty when nothing is."""
    context = tenseal.context_from((send / "context").read_bytes())
    for file in sorted(send.glob("*.in"), key=lambda file: int(file.stem))[chunk::chunks]:
        answer = result / f"{file.stem}.out"
        if not answer.exists() or answer.stat().st_size > BYTES_MAX:
            return f"answer {file.stem} is missing or too large"
        try:
            size = tenseal.ckks_vector_from(context, answer.read_bytes()).size()
        except (RuntimeError, ValueError) as error:
            return f"answer {file.stem} is no ciphertext: {error}"
        if size != CLASSES:
            return f"answer {file.stem} holds {size} numbers instead of {CLASSES}"
    return ""


if __name__ == "__main__":
    said = check(Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["SHOAL_CHUNK"]), int(os.environ["SHOAL_CHUNKS"]))
    sys.exit(said or 0)
