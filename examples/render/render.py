"""Render one tile of the picture: chunk `SHOAL_CHUNK` of `SHOAL_CHUNKS`, cut into COLUMNS columns."""

from __future__ import annotations

import os
from pathlib import Path

from png import encoded
from tracer import developed, pixel


def main() -> None:
    """Write `tile.png` and `tile.txt` (where the tile belongs) to the output folder."""
    chunk, chunks = int(os.environ["SHOAL_CHUNK"]), int(os.environ["SHOAL_CHUNKS"])
    width, height = int(os.environ["WIDTH"]), int(os.environ["HEIGHT"])
    columns, samples = int(os.environ["COLUMNS"]), int(os.environ["SAMPLES"])
    rows = chunks // columns
    column, row = chunk % columns, chunk // columns
    left, right = width * column // columns, width * (column + 1) // columns
    top, bottom = height * row // rows, height * (row + 1) // rows
    print(
        f"tile {chunk + 1} of {chunks}: {right - left} x {bottom - top} pixels at ({left}, {top}), {samples} rays each",
        flush=True,
    )
    pixels = bytearray()
    for y in range(top, bottom):
        for x in range(left, right):
            pixels += bytes(map(developed, pixel(x, y, width, height, samples)))
        if (y - top + 1) % 20 == 0:
            print(f"tile {chunk + 1}: {100 * (y - top + 1) // (bottom - top)} %", flush=True)
    out = Path(os.environ["SHOAL_OUT"])
    (out / "tile.png").write_bytes(encoded(right - left, bottom - top, bytes(pixels)))
    (out / "tile.txt").write_text(f"{left} {top}\n")


if __name__ == "__main__":
    main()
