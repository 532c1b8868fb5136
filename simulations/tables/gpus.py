"""Graphics cards: how fast, how much memory, how hungry, and how often people have them.

Shares: Steam Hardware & Software Survey, "Video Card Description", June 2024 (Valve), as archived by the public data
set jdegene/steamHWsurvey, file shs.csv, in its version of May 2026. Taken: every discrete card with 0.9 % or more, 24
of them, but the RTX 3050 Ti Laptop (0.96 %), whose power the next source lacks. Left out: integrated graphics, "Other".
Together these are 56.54 % of all machines of the survey; a mix deals with them alone.

Figures: Wikipedia, "List of Nvidia graphics processing units" and, for laptops, the lists of each series, as collected
by the public data set voidful/gpu-info-api in its version of June 2025. Speed is peak FP32: 2 × cores × boost clock. It
is what makers publish for all cards alike; jobs that are bound by memory or use tensor cores differ more or less than
that. Laptop cards are built for a range of power: here at its upper end, so that theirs are upper limits. Where the
survey does not tell variants apart, the card is the common one: RTX 3060 12 GB, RTX 3080 10 GB, GTX 1060 6 GB, RTX 3050
8 GB, RTX 2060 6 GB, RTX 4060 Ti 8 GB, GTX 1650 with GDDR5, GTX 1050 2 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from protocol.errors import Refused

GIB_IN_MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Gpu:
    """A class of cards."""

    name: str
    """As in `protocol/gpu_models.py`; laptop cards are their own class here, and small ones are in no offer's list."""
    cores: int
    """FP32 units."""
    boost_mhz: int
    memory_mib: int
    watt: int
    """Board power, W."""

    @property
    def mflops(self) -> int:
        """Peak FP32, millions of operations per second."""
        return 2 * self.cores * self.boost_mhz


@dataclass(frozen=True, slots=True)
class Part:
    """One class of a mix."""

    gpu: Gpu
    share: int
    """Hundredths of a percent of the machines surveyed; only the proportions count."""


REFERENCE: Final = Gpu("RTX3060", 3584, 1777, 12 * GIB_IN_MIB, 170)
"""Times of scenarios are on this card: the most common one of the survey, 12.7 TFLOPS."""

STEAM_2024: Final = (
    Part(REFERENCE, 550),
    Part(Gpu("GTX1650", 896, 1665, 4 * GIB_IN_MIB, 75), 404),
    Part(Gpu("RTX4060LAPTOP", 3072, 2370, 8 * GIB_IN_MIB, 115), 346),
    Part(Gpu("RTX3060TI", 4864, 1665, 8 * GIB_IN_MIB, 200), 346),
    Part(Gpu("RTX2060", 1920, 1680, 6 * GIB_IN_MIB, 160), 331),
    Part(Gpu("RTX3070", 5888, 1725, 8 * GIB_IN_MIB, 220), 326),
    Part(Gpu("RTX3060LAPTOP", 3840, 1702, 6 * GIB_IN_MIB, 115), 325),
    Part(Gpu("GTX1060", 1280, 1708, 6 * GIB_IN_MIB, 120), 308),
    Part(Gpu("RTX4060", 3072, 2460, 8 * GIB_IN_MIB, 115), 292),
    Part(Gpu("RTX3050", 2560, 1777, 8 * GIB_IN_MIB, 130), 268),
    Part(Gpu("RTX4060TI", 4352, 2540, 8 * GIB_IN_MIB, 160), 238),
    Part(Gpu("RTX4070", 5888, 2475, 12 * GIB_IN_MIB, 200), 231),
    Part(Gpu("GTX1050TI", 768, 1392, 4 * GIB_IN_MIB, 75), 224),
    Part(Gpu("GTX1660SUPER", 1408, 1785, 6 * GIB_IN_MIB, 125), 211),
    Part(Gpu("RTX3080", 8704, 1710, 10 * GIB_IN_MIB, 320), 206),
    Part(Gpu("GTX1660TI", 1536, 1770, 6 * GIB_IN_MIB, 120), 147),
    Part(Gpu("RTX3070TI", 6144, 1770, 8 * GIB_IN_MIB, 290), 140),
    Part(Gpu("RTX2060SUPER", 2176, 1650, 8 * GIB_IN_MIB, 175), 124),
    Part(Gpu("RTX4070TI", 7680, 2610, 12 * GIB_IN_MIB, 285), 121),
    Part(Gpu("RTX2070SUPER", 2560, 1770, 8 * GIB_IN_MIB, 215), 114),
    Part(Gpu("GTX1070", 1920, 1683, 8 * GIB_IN_MIB, 150), 109),
    Part(Gpu("GTX1050", 640, 1455, 2 * GIB_IN_MIB, 75), 107),
    Part(Gpu("GTX1660", 1408, 1785, 6 * GIB_IN_MIB, 120), 94),
    Part(Gpu("RTX4090", 16384, 2520, 24 * GIB_IN_MIB, 450), 92),
)
"""Gamers' machines of June 2024: the nearest public count to what people at home would lend."""

MIXES: Final[dict[str, tuple[Part, ...]]] = {
    "steam-2024": STEAM_2024,
    "uniform": (Part(REFERENCE, 1),),
}
"""By the name that a scenario's `gpus` has."""


def deal(mix: str, random: Random) -> Gpu:
    """One machine's card, drawn by share. Raises `Refused` for a mix that does not exist."""
    parts = MIXES.get(mix)
    if parts is None:
        raise Refused(
            f"there is no mix of GPUs named {mix!r}",
            code="unknown_mix",
            fix=f"Set gpus to one of {', '.join(sorted(MIXES))}.",
        )
    place = random.randrange(sum(part.share for part in parts))
    for part in parts[:-1]:
        place -= part.share
        if place < 0:
            return part.gpu
    return parts[-1].gpu
