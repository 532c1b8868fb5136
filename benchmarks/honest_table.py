"""The honest matrix as a document: what agreed, what was caught, and the tolerances that follow."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks import report
from benchmarks.honest_plugins import Plugin
from protocol.proof import PPT
from protocol.units import PPM
from verifier.calibration import Profile
from verifier.score import ACCEPT, SECOND
from verifier.tensors import Tensors

Errors = tuple[float, float, float]
"""Update, first gradient, loss."""
Compared = tuple[Tensors, Tensors, Tensors, Tensors, Tensors]


@dataclass
class Honest:
    """One class on all configurations."""

    kind: str
    is_bitwise: bool
    runs: int
    pairs: int = 0
    equal: int = 0
    """Pairs of equal bytes."""
    rejected: int = 0
    """Bitwise classes: pairs that differ."""
    chunks: tuple[int, int] = (0, 0)
    """(whole chunks with one last state everywhere, chunks)."""
    first: list[float] = field(default_factory=list)
    """Errors against the first configuration: these calibrate."""
    units: list[Errors] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)


@dataclass(frozen=True)
class Cheat:
    """One cheat against one class."""

    kind: str
    name: str
    errors: list[Errors]
    codes: list[str]
    scores: list[int]


@dataclass(frozen=True)
class Matrix:
    """Everything that the document tells."""

    honest: Sequence[Honest]
    profiles: Sequence[Profile | str]
    cheats: Sequence[Sequence[Cheat]]
    plugins: Sequence[tuple[Plugin, Mapping[str, Sequence[str]]]]
    configs: Sequence[str]
    seconds: float


HEAD: Final = """# Do honest machines agree?

Written by `python -m benchmarks.honest_matrix`; do not edit. Nine configurations, each in its own process, threads
× instruction set (`ATEN_CPU_CAPABILITY`, with oneDNN, MKL, OpenBLAS and NumPy capped alike):
{configs}.
All run on one machine, so this shows what threads and vector width do, not what another vendor's chip or a GPU does.
How a unit of training is compared: [specs/33](../specs/33-training-proof.md).

{machine}. {seconds:.0f} s in all, beside whatever else the machine did.
Apart from this none of the figures is a time: a second measurement under another load gave the same digits. What would
change them is another model, another kind of machine, and other seeds.
"""


def text(matrix: Matrix) -> str:
    """The whole document."""
    facts = report.machine()
    machine = f"{facts.cpu}, {facts.cores} cores, Linux {facts.kernel.split('-')[0]}, Python {facts.python}"
    parts = [
        HEAD.format(configs=", ".join(matrix.configs), machine=machine, seconds=matrix.seconds),
        "## Honest runs\n\n" + honest_rows(matrix.honest),
        "## Tolerances\n\n" + profile_rows(matrix),
        "## The cheats\n\n" + cheat_rows(matrix),
        "## Other classes\n\n" + plugin_rows(matrix),
    ]
    return "\n".join(parts)


def honest_rows(honest: Iterable[Honest]) -> str:
    """Every class: pairs, errors, false rejects."""
    lines = [
        "A *run* is one unit on one configuration, from an opened state. Every two configurations are compared, as a",
        "claim is with its audit; *false rejects* are pairs with a score below 0.85, in bitwise classes those that",
        "differ. Errors are the largest of all pairs; *second* are pairs that a second auditor would have to look at.",
        "",
        "| class | runs | pairs | equal bits | update | first gradient | losses | second | false rejects |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in honest:
        worst = [max(errors[place] for errors in one.units) for place in range(3)]
        second = sum(SECOND <= score < ACCEPT for score in one.scores)
        rejects = one.rejected if one.is_bitwise else sum(score < SECOND for score in one.scores)
        is_judged = one.is_bitwise or one.scores
        lines.append(
            f"| {one.kind} | {one.runs} | {one.pairs} | {one.equal} | {number(worst[0])} | {number(worst[1])} | "
            f"{number(worst[2])} | {second if is_judged else '–'} | **{rejects if is_judged else 'refused'}** |"
        )
    for one in honest:
        if one.chunks[1]:
            lines += ["", f"Whole chunks of {one.kind}: {one.chunks[0]} of {one.chunks[1]} end alike everywhere."]
    return "\n".join(lines) + "\n"


def profile_rows(matrix: Matrix) -> str:
    """What the errors allow."""
    lines = [
        "`t_ok` is five times the largest honest error against the first configuration, `t_bad` half the smallest",
        "error that a cheat shows below; where they are closer than a factor of five the class is refused.",
        "",
        "| class | honest, largest | cheats, smallest | t_ok | t_bad | profile |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one, profile in zip(matrix.honest, matrix.profiles, strict=True):
        if isinstance(profile, Profile):
            tolerance = profile.tolerance
            lines.append(
                f"| {one.kind} | {number(profile.honest_max / PPT)} | {number(profile.cheat_min / PPT)} | "
                f"{number(tolerance.t_ok / PPT)} | {number(tolerance.t_bad / PPT)} | `{tolerance.profile}` |"
            )
        elif not one.is_bitwise:
            lines.append(f"| {one.kind} | {number(max(one.first))} | | | | refused, {profile} |")
    return "\n".join(lines) + "\n"


def cheat_rows(matrix: Matrix) -> str:
    """Every cheat against every class: the range of its error, and what became of it."""
    kinds = [one.kind for one in matrix.honest]
    lines = [
        "Least and largest update error, and the code; in bitwise classes any difference is found. The number is that",
        "of the attack. int8 is a grey zone that sets no tolerance: the error depends on the model.",
        "",
        f"| cheat | {' | '.join(kinds)} |",
        f"| --- |{' --- |' * len(kinds)}",
    ]
    names = [cheat.name for cheat in matrix.cheats[0]] if matrix.cheats else []
    for place, name in enumerate(names):
        cells = [cheat_cell(row[place]) for row in matrix.cheats]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cheat_cell(cheat: Cheat) -> str:
    """`3e-3 – 9e-3, update_differs, 16 of 16 rejected`."""
    updates = [errors[0] for errors in cheat.errors]
    said = f"{number(min(updates))} – {number(max(updates))}"
    if cheat.scores:
        caught = sum(score < SECOND for score in cheat.scores)
        median = statistics.median(cheat.scores) / PPM
        return f"{said}, score {median:.2f}, {caught} of {len(cheat.scores)} rejected: {', '.join(cheat.codes)}"
    return f"{said}, {', '.join(cheat.codes)}"


def plugin_rows(matrix: Matrix) -> str:
    """Which digests were one everywhere."""
    lines = [
        "A run computes a small piece of work of the class and hashes what it would claim. In the bitwise classes all",
        "runs on all configurations have to give one digest.",
        "",
        "| class | runs | digests | other than on the first configuration | false rejects |",
        "| --- | --- | --- | --- | --- |",
    ]
    for plugin, found in matrix.plugins:
        runs = sum(len(printed) for printed in found.values())
        usual = found[matrix.configs[0]][0]
        odd = [config for config, printed in found.items() if set(printed) != {usual}]
        rejects = sum(digest != usual for printed in found.values() for digest in printed)
        said = f"**{rejects}**" if plugin.is_bitwise else "not claimed"
        lines.append(f"| {plugin.title} | {runs} | {len(digests(found))} | {', '.join(odd) or 'none'} | {said} |")
    return "\n".join(lines) + "\n"


def digests(found: Mapping[str, Sequence[str]]) -> set[str]:
    """All of a plug-in's."""
    return {digest for printed in found.values() for digest in printed}


def number(value: float) -> str:
    """Two figures, or 0.

    >>> number(0.0), number(2.345e-7)
    ('0', '2.3e-07')
    """
    return f"{value:.1e}" if value else "0"
