"""Put the tiles together: every chunk's `tile.png` at the place that its `tile.txt` names, as one `picture.png`."""

from __future__ import annotations

import os
from pathlib import Path

from png import decoded, encoded


def main() -> None:
    """Read `chunks/<i>/` of the input folder, write `picture.png` to the output folder."""
    folder = Path(os.environ["SHOAL_IN"]) / "chunks"
    width, height = int(os.environ["WIDTH"]), int(os.environ["HEIGHT"])
    chunks = int(os.environ["SHOAL_CHUNKS"])
    picture = bytearray(width * height * 3)
    for chunk in range(chunks):
        tile = folder / str(chunk)
        left, top = map(int, (tile / "tile.txt").read_text().split())
        tile_width, tile_height, pixels = decoded((tile / "tile.png").read_bytes())
        for y in range(tile_height):
            start = ((top + y) * width + left) * 3
            picture[start : start + tile_width * 3] = pixels[y * tile_width * 3 : (y + 1) * tile_width * 3]
    (Path(os.environ["SHOAL_OUT"]) / "picture.png").write_bytes(encoded(width, height, bytes(picture)))
    print(f"picture.png: {width} x {height} pixels from {chunks} tiles")


if __name__ == "__main__":
    main()
