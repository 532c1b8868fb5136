"""`python -m simulations.economy`: tries every economic attack, prints the table, draws the curves of the documents."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from protocol.errors import ShoalError
from simulations.economy.curves import PICTURES, draw
from simulations.economy.trials import ATTACKS, Trial, trial


def row(number: str, text: str, found: Trial) -> str:
    """One line of the table."""
    return f"| {number} | {text} | {found.mean:.2f} | {found.bound:.2f} | {found.best:.2f} | {found.lucky:.1%} |"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when an attack might pay."""
    parser = argparse.ArgumentParser(prog="python -m simulations.economy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="lives of each attack (1000)")
    parser.add_argument("--curve-seeds", type=int, default=0, help="lives of each point of the curves (none)")
    parser.add_argument("--out", type=Path, default=Path("economy"), help="where the curves go")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(ATTACKS)} (all)")
    wanted = parser.parse_args(arguments)
    unknown = [number for number in wanted.attacks if number not in ATTACKS]
    if unknown or wanted.seeds < 2 or wanted.jobs < 1:
        parser.error(
            f"no attack {unknown[0]}: choose from {', '.join(ATTACKS)}" if unknown else "2 seeds, 1 job at least"
        )
    print("| attack | what it does | mean gain | surely below | best life | lives that gained |")
    print("| --- | --- | --- | --- | --- | --- |")
    pays = False
    for number, (text, attack) in ATTACKS.items():
        if not wanted.attacks or number in wanted.attacks:
            found = trial(attack, wanted.seeds, jobs=wanted.jobs)
            pays = pays or not found.bound < 0
            print(row(number, text, found), flush=True)
    try:
        for picture in PICTURES if wanted.curve_seeds else ():
            wanted.out.mkdir(parents=True, exist_ok=True)
            draw(picture, wanted.curve_seeds, wanted.out, wanted.jobs)
            print(f"drew {wanted.out / picture.file}.svg", file=sys.stderr)
    except (ShoalError, OSError) as error:
        print(f"shoal: {error}", file=sys.stderr)
        return 2
    return int(pays)


if __name__ == "__main__":
    sys.exit(main())
