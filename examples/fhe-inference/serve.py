"""The provider's side: answers rows that it cannot read. `python serve.py SEND OUT`, one chunk's share of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import tenseal
from model import BIAS, MATRIX


def serve(send: Path, out: Path, chunk: int, chunks: int) -> None:
    """Every `chunks`-th row, beginning with row `chunk`."""
    context = tenseal.context_from((send / "context").read_bytes())
    for file in sorted(send.glob("*.in"), key=lambda file: int(file.stem))[chunk::chunks]:
        row = tenseal.ckks_vector_from(context, file.read_bytes())
        answer = row.matmul(MATRIX) + BIAS
        (out / f"{file.stem}.out").write_bytes(answer.serialize())


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["SHOAL_CHUNK"]), int(os.environ["SHOAL_CHUNKS"]))
