"""Writes the tables of docs/verification.md that are computed: levels, odds, tiers and reasons. `make` checks them.

.venv/bin/python docs/write_verification.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from protocol import reasons, sla, trust  # noqa: E402 - the folders have to be open first
from protocol.units import PPM, SECOND  # noqa: E402

PAGE: Final = ROOT / "docs" / "verification.md"
UNITS: Final = 48
CHUNKS: Final = 12


def percent(ppm: int) -> str:
    """Three digits of a share."""
    return f"{ppm / 10_000:.3g} %"


def levels() -> list[str]:
    """What each level does, costs, and asks for."""
    rows = [
        "| `trust` | audited at least | auditors | units done again | whole chunks | 48 units | stake that deters |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in trust.LEVELS.items():
        whole, units = percent(trust.surcharge_ppm(one, 0)), percent(trust.surcharge_ppm(one, UNITS))
        stake = f"{trust.stake_min(PPM, one) / PPM:.3g} ×"
        rows.append(
            f"| `{name}` | {percent(one.floor_ppm)} | {one.auditors} | {one.samples} | {whole} | {units} | {stake} |"
        )
    return rows


def odds() -> list[str]:
    """The chance to catch somebody who cheats on every chunk."""
    rows = [
        "| `trust` | whole chunks compared, any share | 48 units, 10 % | 48 units, 50 % | 48 units, all |",
        "| --- | --- | --- | --- | --- |",
    ]
    cases = ((0, PPM), (UNITS, PPM // 10), (UNITS, PPM // 2), (UNITS, PPM))
    for name, one in trust.LEVELS.items():
        chances = [trust.caught_in_job_ppm(trust.caught_ppm(one, units, part), CHUNKS) for units, part in cases]
        rows.append(f"| `{name}` | {' | '.join(_odds(chance) for chance in chances)} |")
    return rows


def _odds(chance: int) -> str:
    """A chance that is not one is never shown as one."""
    return percent(chance) if chance < 999_500 else "over 99.9 %"


def promises() -> list[str]:
    """What tiers of service promise."""
    rows = ["| tier | heard of | delivered | correct | starts within | per broken promise |", "| --- " * 6 + "|"]
    for name, one in sla.SLA.items():
        if name != "none":
            shares = (one.uptime, one.delivered, one.correct)
            start = f"{one.start // SECOND} s"
            rows.append(f"| {name} | {' | '.join(percent(ppm) for ppm in shares)} | {start} | {percent(one.credit)} |")
    return rows


def codes() -> list[str]:
    """Every reason."""
    rows = ["| code | whose fault | what was found | what to do |", "| --- | --- | --- | --- |"]
    rows += [f"| `{one.code}` | {one.fault} | {one.sentence} | {one.fix} |" for one in reasons.REASONS.values()]
    return [row.replace("<", "&lt;") for row in rows]


TABLES: Final = {"| `trust` | audited": levels, "| `trust` | whole": odds, "| tier |": promises, "| code |": codes}
"""How a table begins -> what it is."""


def page(text: str) -> str:
    """The document with its computed tables as they are now."""
    found: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        made = next((rows for start, rows in TABLES.items() if line.startswith(start)), None)
        if made is None:
            found.append(line)
            continue
        found += made()
        for rest in lines:
            if not rest.startswith("|"):
                found.append(rest)
                break
    return "\n".join(found) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
