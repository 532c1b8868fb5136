"""`shoal sim`: experiments with a simulated network that runs the node's own machines."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import Refused
from shoal import exits
from shoal.commands.words import Nouns, add_noun
from shoal.output import Output

if TYPE_CHECKING:
    from shoal.sim import Scenario

SCENARIO_HELP = "scenario file, or a name that `shoal sim list` shows"
FOLDER_HELP = "run directory"


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The commands and their flags."""
    verbs = add_noun(nouns, "sim", "experiments with a simulated network")
    texts = {
        "list": ("the scenarios that come with Shoal, and what they may name", run_list),
        "init": ("write a scenario to start from", run_init),
        "validate": ("read a scenario and say what it means", run_validate),
        "run": ("run its seeds; exit 1 when a rule of the protocol was broken", run_run),
        "sweep": ("run every combination of some values; goes on where it was interrupted", run_sweep),
        "replay": ("run one directory or violation again, event by event", run_replay),
        "diff": ("where two runs part, and how their figures differ", run_diff),
        "plot": ("draw the plots of a run or a sweep", run_plot),
        "minimise": ("the fewest faults that still break the same rule", run_minimise),
        "export-shadow": ("configuration for Shadow, which runs real nodes on the same network", run_export),
    }
    for name, (text, runner) in texts.items():
        verbs.add_parser(name, parents=[voice], help=text, description=text).set_defaults(run=runner)
    _add_flags(verbs.choices)


def _add_flags(choices: Mapping[str, argparse.ArgumentParser]) -> None:
    for name in ("validate", "run", "sweep", "export-shadow"):
        choices[name].add_argument("scenario", help=SCENARIO_HELP)
        choices[name].add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
            help="another value, such as population.providers.n=200; may be repeated",
        )  # fmt: skip
    choices["init"].add_argument(
        "file", type=Path, nargs="?", default=Path("scenario.yaml"), help="default %(default)s"
    )
    choices["init"].add_argument(
        "--from", dest="source", default="baseline", metavar="NAME", help="default %(default)s"
    )
    choices["export-shadow"].add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    for name in ("run", "sweep", "export-shadow"):
        choices[name].add_argument("--seed", type=int, metavar="N", help="one seed instead of the scenario's")
    for name, place in (("run", "runs"), ("sweep", "sweeps")):
        choices[name].add_argument("--seeds", metavar="A..B", help="seeds instead of the scenario's")
        choices[name].add_argument("--out", type=Path, metavar="DIR", help=f"for results (default {place}/<name>)")
    sweep = choices["sweep"]
    sweep.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    sweep.add_argument("--ray", action="store_true", help="spread the runs over a Ray cluster")
    sweep.add_argument(
        "--grid", action="append", default=[], metavar="KEY=A,B", help="values of one key; may be repeated"
    )
    for name in ("first", "second"):
        choices["diff"].add_argument(name, type=Path, help=FOLDER_HELP)
    for name in ("replay", "minimise"):
        choices[name].add_argument("folder", type=Path, help=FOLDER_HELP)
    choices["replay"].add_argument("--until", metavar="TIME", help="stop after so much simulated time, such as 90s")
    choices["replay"].add_argument("--node", metavar="NAME", help="only events of this peer, such as provider-3")
    choices["plot"].add_argument("folders", type=Path, nargs="+", metavar="folder", help="runs; several are compared")
    choices["plot"].add_argument("--out", type=Path, metavar="DIR", help="default <first folder>/plots")
    choices["plot"].add_argument("--only", action="append", default=[], metavar="PLOT", help="may be repeated")


def chosen(args: argparse.Namespace) -> Scenario:
    """The scenario that a command is about, with the changes of --set, --seed and --seeds."""
    from shoal.sim import Scenario

    changes: dict[str, object] = {
        key: value[1:-1].split(",") if value[0] == "[" and value[-1] == "]" else value
        for key, value in (_halves(said, "--set") for said in args.changes)
    }
    if getattr(args, "seed", None) is not None:
        changes["simulation.seeds"] = [args.seed]
    elif getattr(args, "seeds", None) is not None:
        changes["simulation.seeds"] = args.seeds
    scenario = Scenario.load(args.scenario)
    return scenario.changed(changes) if changes else scenario


def run_list(args: argparse.Namespace, out: Output) -> int:
    """Names and what they are about."""
    from shoal.output import table
    from shoal.sim import known_names, shipped

    found, known = shipped(), known_names()
    words = {
        "strategies": known.strategies or (),
        "latencies": tuple(known.latencies or ()),
        "gpus": known.gpus or (),
    }
    listed = [{"name": one.name, "about": one.about, "path": str(one.path)} for one in found]
    value = {"scenarios": listed, **words}
    rows = [(one.name, one.about) for one in found]
    names = "\n".join(f"{key:<11} {', '.join(names)}" for key, names in words.items())
    out.data(value, lambda: f"{table(('scenario', 'about'), rows)}\n\n{names}")
    out.say("Run one with `shoal sim run NAME`, or get a copy to edit with `shoal sim init --from NAME`.")
    return exits.OK


def run_init(args: argparse.Namespace, out: Output) -> int:
    """A copy of a shipped scenario, comments and all; nothing is overwritten."""
    from shoal.sim import copy

    target = copy(args.source, args.file)
    out.data({"file": str(target)}, lambda: str(target))
    out.say(f"Run it with `shoal sim run {target}`.")
    return exits.OK


def run_validate(args: argparse.Namespace, out: Output) -> int:
    """What the file means, as a file that says the same."""
    scenario = chosen(args)
    out.data({"name": scenario.name, "valid": True, "scenario": scenario.plain}, lambda: scenario.text.rstrip())
    out.say(f"{scenario.name} is a scenario.")
    return exits.OK


def run_run(args: argparse.Namespace, out: Output) -> int:
    """Every seed into a directory of its own; those that are there already are not run again."""
    from shoal import sim, sim_text
    from shoal.sim_progress import bar

    scenario = chosen(args)
    root = args.out or Path("runs") / scenario.name
    plan = scenario.simulation
    results: list[sim.Summary] = []
    for seed in plan.seeds:
        with bar(out, f"{scenario.name} seed {seed}", plan.duration + plan.settle) as tell:
            done = sim.run_into(scenario, seed, root / f"seed-{seed}", tell)
        results.append(done)
        out.say(sim_text.line(done))
    out.data({"folder": str(root), "runs": [one.plain for one in results]}, lambda: sim_text.runs(results))
    out.say(f"Draw the plots with `shoal sim plot {results[0].folder}`.")
    return exits.JOB_FAILED if any(one.violations for one in results) else exits.OK


def run_replay(args: argparse.Namespace, out: Output) -> int:
    """A line per event. Exit 1 when it ends in a violation."""
    from shoal import sim

    until = None if args.until is None else sim.span(args.until)
    again, ended = sim.replay(
        args.folder, lambda line: out.line({"event": line}, line), args.node or "", until
    )  # fmt: skip
    if ended.violation is not None:
        out.say(f"violation: {ended.violation}")
        return exits.JOB_FAILED
    out.say(f"{ended.events:,} events, auditor {ended.auditor}")
    if until is None and again.auditor and again.auditor != ended.auditor:
        raise Refused(
            f"the run had auditor {again.auditor}, and now has {ended.auditor}",
            code="auditor_differs",
            fix="Use the commit that the run's manifest.json names.",
        )
    return exits.OK


def run_minimise(args: argparse.Namespace, out: Output) -> int:
    """Delta debugging of the fault list."""
    from shoal import sim

    left, folder = sim.minimal(args.folder, lambda count: out.say(f"trying with {count} faults"))
    value = {"faults": len(left), "folder": str(folder)}
    out.data(value, lambda: f"{len(left)} faults are enough: {folder}")
    out.say(f"Watch it with `shoal sim replay {folder}`.")
    return exits.OK


def run_plot(args: argparse.Namespace, out: Output) -> int:
    """SVG, PNG, and the data behind each as CSV."""
    from shoal import sim

    written = [str(path) for path in sim.plot(args.folders, args.only, args.out)]
    out.data({"files": written}, lambda: "\n".join(written))
    return exits.OK


def run_sweep(args: argparse.Namespace, out: Output) -> int:
    """Every point with every seed. Exit 1 when a rule was broken; what failed is told and the rest is kept."""
    from shoal import sim, sim_text
    from shoal.sim_progress import bar

    grid = {key: values.split(",") for key, values in (_halves(said, "--grid") for said in args.grid)}
    if not grid:
        fix = "Write --grid population.providers.n=20,40; for one scenario use `shoal sim run`."
        raise Refused("a sweep needs --grid", code="usage", fix=fix)
    scenario = chosen(args)
    total = len(scenario.simulation.seeds)
    for values in grid.values():
        total *= len(values)
    with bar(out, scenario.name, total) as tell:
        swept = sim.sweep(
            scenario, grid, jobs=args.jobs, out=args.out, ray=args.ray,
            on_progress=lambda progress: tell(progress.done, 0),
        )  # fmt: skip
    for task, outcome in swept.failures:
        out.say(f"{task.label}, seed {task.seed}: {outcome.detail} [{outcome.code}]")
    found = sim.swept_runs(swept.folder)
    value = {"folder": str(swept.folder), "failures": len(swept.failures), "runs": [one.plain for one in found]}
    out.data(value, lambda: sim_text.runs(found))
    out.say(f"Draw the plots with `shoal sim plot {swept.folder}`.")
    if swept.failures:
        return exits.REFUSED
    return exits.JOB_FAILED if any(one.violations for one in found) else exits.OK


def run_diff(args: argparse.Namespace, out: Output) -> int:
    """Inputs, events, figures. Exit 0 in either case: a difference is an answer."""
    from msgspec import to_builtins

    from shoal import sim, sim_text

    found = sim.diff(args.first, args.second)
    out.data(to_builtins(found), lambda: sim_text.difference(found))
    return exits.OK


def run_export(args: argparse.Namespace, out: Output) -> int:
    """Everything that Shadow needs but the program."""
    from shoal import sim

    scenario = chosen(args)
    written = [str(path) for path in sim.export_shadow(scenario, scenario.simulation.seeds[0], args.out)]
    out.data({"files": written}, lambda: "\n".join(written))
    out.say(f"{args.out}/README.md says how to start it.")
    return exits.OK


def _halves(said: str, flag: str) -> tuple[str, str]:
    key, equals, value = said.partition("=")
    if not equals or not key or not value:
        raise Refused(f"{flag} {said}: no value", code="usage", fix=f"Write {flag} {key or 'KEY'}=VALUE.")
    return key, value
