"""Bad scenarios of the simulator: files, traces, and commands about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simulations import scenario_file
from simulations.scenario_checks import Known
from tests.bad_input.ground import Ground, Row, Told, raised

START = "version: 1\nname: x\nsimulation: {duration: 10m}\npopulation: {providers: {n: 10}}\n"
KNOWN = Known(latencies={"ethereum-2025": ("europe", "asia")}, gpus=("steam-2024",), strategies=("covert-flash",))


def scenario(name: str, text: str, code: str, says: str) -> Row:
    """A scenario's text."""
    act = raised_by(lambda folder: scenario_file.read(text, folder, known=KNOWN))
    return Row(f"scenario: {name}", act, code, says)


def raised_by(step: Callable[[Path], object]) -> Callable[[Ground], Told]:
    return lambda ground: raised(lambda: step(ground.fresh()))


def more(name: str, text: str, code: str, says: str) -> Row:
    """A line behind a good beginning."""
    return scenario(name, f"{START}{text}\n", code, says)


def simulation(name: str, text: str, code: str, says: str) -> Row:
    return scenario(name, START.replace("duration: 10m", text), code, says)


def providers(name: str, text: str, code: str, says: str) -> Row:
    return scenario(name, START.replace("{n: 10}", text), code, says)


def fault(name: str, text: str, says: str, code: str = "bad_scenario") -> Row:
    return more(name, f"faults: [{text}]", code, says)


def on_disk(name: str, data: bytes, code: str, says: str) -> Row:
    """A scenario that cannot even be read."""

    def step(folder: Path) -> object:
        (folder / "s.yaml").write_bytes(data)
        return scenario_file.load(folder / "s.yaml")

    return Row(f"scenario: {name}", raised_by(step), code, says)


def trace(name: str, data: bytes, code: str, says: str) -> Row:
    """A scenario whose hosts follow a trace."""

    def step(folder: Path) -> object:
        (folder / "t.tab").write_bytes(data)
        text = START.replace("{n: 10}", "{n: 10, churn: {model: trace, trace: t.tab}}")
        return scenario_file.read(text, folder)

    return Row(f"trace: {name}", raised_by(step), code, says)


def command(name: str, words: str, code: str, says: str) -> Row:
    """A `shoal sim` command in an empty folder; `{tmp}` is one."""

    def act(ground: Ground) -> Told:
        return ground.cli("sim", *(word.replace("{tmp}", str(ground.fresh())) for word in words.split()))

    return Row(f"sim: {name}", act, code, says)


BOMB = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n"

FILES = (
    scenario("empty", "", "bad_yaml", "the file is empty"),
    scenario("no YAML", "a: [1", "bad_yaml", "scenario.yaml:"),
    scenario("tab", "version: 1\n\tname: x\n", "bad_yaml", "a tab is used as indentation"),
    scenario("bomb of anchors", BOMB, "bad_yaml", "anchors and aliases"),
    scenario("tag", "name: !!python/object:os.system x\n", "bad_yaml", "tags (!) are not read"),
    scenario("two documents", f"{START}---\n{START}", "bad_yaml", "a second document begins here"),
    scenario("key twice", f"{START}name: y\n", "bad_yaml", "the key is there twice, first in line 2"),
    scenario("key twice below", START.replace("n: 10", "n: 10, n: 20"), "bad_yaml", "population.providers.n"),
    scenario("deep", "a: " + "[" * 20 + "]" * 20, "over_limit", "nested deeper than 8"),
    scenario("long", START + "#" * 70_000, "over_limit", "at most 65536 are read"),
    scenario("a list", "- a\n", "bad_scenario", "expected a map"),
    scenario("other version", START.replace("version: 1", "version: 2"), "bad_scenario", "found `2`"),
    scenario("no name", START.replace("name: x\n", ""), "missing_key", "name: expected a name"),
    scenario("no simulation", "version: 1\nname: x\n", "missing_key", "simulation: expected a map"),
    on_disk("no text", b"name: \xff\xfe\n", "bad_yaml", "not UTF-8 text"),
    on_disk("binary", b"\0\1\2", "bad_yaml", "not YAML"),
)

SECTIONS = (
    more("unknown key", "topolgy: {}", "unknown_key", "5:1: topolgy: unknown key `topolgy`"),
    more("unknown key below", "topology: {latncy: x}", "unknown_key", "topology.latncy"),
    more("somebody else's key", "seeds: [1]", "unknown_key", "seeds"),
    more("unknown table", "topology: {latency: mars}", "bad_scenario", "there is no latency table `mars`"),
    more("no share", "topology: {loss: some}", "bad_scenario", "found `some`"),
    more("share above 1", "topology: {loss: 150%}", "bad_scenario", "found `150%`"),
    more("shares above 1", "topology: {nat: {public: 60%, cone: 60%}}", "bad_scenario", "add up to 1.2, not to 1"),
    more("unknown kind of NAT", "topology: {nat: {carrier: 1}}", "unknown_key", "topology.nat.carrier"),
    more("no last mile", "topology: {bandwidth: {home: fast}}", "bad_scenario", "found `fast`"),
    more("jitter that is no number", "topology: {jitter: .nan}", "bad_scenario", "found `.nan`"),
    more("negative delay", "topology: {delay: -5ms}", "bad_scenario", "found `-5ms`"),
    more("negative rate", "workload: {jobs: {arrival: poisson -20/h}}", "bad_scenario", "found `poisson -20/h`"),
    more("no rate", "workload: {jobs: {arrival: poisson 0/h}}", "bad_scenario", "found `poisson 0/h`"),
    more("unknown arrival", "workload: {jobs: {arrival: pareto 20/h}}", "bad_scenario", "found `pareto 20/h`"),
    more("jobs without arrival", "workload: {jobs: {chunks: 3}}", "missing_key", "workload.jobs.arrival"),
    more("no chunks", "workload: {jobs: {arrival: poisson 1/h, chunks: 0}}", "bad_scenario", "from 1 to 4096"),
    more(
        "no time",
        "workload: {jobs: {arrival: poisson 1/h, chunk_time: lognormal 90s}}",
        "bad_scenario",
        "found `lognormal 90s`",
    ),
    more("silent chatter", "workload: {messages: {per_second: 0}}", "bad_scenario", "found `0`"),
    more("unknown plot", "outputs: {plots: [histogramm]}", "bad_scenario", "outputs.plots[0]"),
    more("unknown format", "outputs: {metrics: excel}", "bad_scenario", "found `excel`"),
    more("unknown strategy", "adversaries: [{strategy: bribe, n: 1}]", "bad_scenario", "there is no strategy `bribe`"),
    more("adversary of nobody", "adversaries: [{strategy: covert-flash}]", "bad_scenario", "neither `n` nor `share`"),
    simulation("duration of nothing", "duration: 0s", "bad_scenario", "found `0s`"),
    simulation("endless", "duration: 9999999d", "bad_scenario", "at most a year"),
    simulation("exponent", "duration: 1e3", "bad_scenario", "found `1e3`"),
    simulation("seed that is no integer", "duration: 1m, seeds: [one]", "bad_scenario", "simulation.seeds[0]"),
    simulation("seed that is a fraction", "duration: 1m, seeds: [1.5]", "bad_scenario", "found `1.5`"),
    simulation("huge seed", "duration: 1m, seeds: [99999999999999999999]", "bad_scenario", "simulation.seeds[0]"),
    simulation("too many seeds", "duration: 1m, seeds: 1..99999999", "bad_scenario", "at most 10000"),
    simulation("seeds backwards", "duration: 1m, seeds: 9..1", "bad_scenario", "found `9..1`"),
    simulation("unknown check", "duration: 1m, checks: [vibes]", "bad_scenario", "simulation.checks[0]"),
    simulation("late warm-up", "duration: 1m, warmup: 2m", "bad_scenario", "the warm-up is not over"),
    providers("no number", "{}", "missing_key", "population.providers.n"),
    providers("negative", "{n: -1}", "bad_scenario", "found `-1`"),
    providers("a crowd", "{n: 99999999999}", "bad_scenario", "from 0 to 100000"),
    providers("unknown GPUs", "{n: 1, gpus: steam-1999}", "bad_scenario", "there is no mix of GPUs `steam-1999`"),
    providers("churn without a length", "{n: 1, churn: {model: weibull}}", "missing_key", "churn.scale"),
    providers("unknown churn", "{n: 1, churn: {model: pareto}}", "bad_scenario", "found `pareto`"),
    scenario(
        "fault on a missing role",
        START.replace("}}", "}, stewards: {n: 0}}") + "faults: [{at: 1m, kill: {role: steward, n: 1}}]\n",
        "bad_scenario",
        "5:32: faults[0].kill.role: there is no steward in this scenario",
    ),
    fault("role that is none", "{at: 1m, kill: {role: king, n: 1}}", "found `king`"),
    fault("more than there are", "{at: 1m, kill: {role: provider, n: 11}}", "11 are hit, and there are 10 providers"),
    fault("fault without a time", "{kill: {n: 1}}", "the fault has no time", "missing_key"),
    fault("too late", "{at: 11m, kill: {n: 1}}", "is not before the end of the simulation"),
    fault("unknown", "{at: 1m, meteor: {n: 1}}", "unknown key `meteor`", "unknown_key"),
    fault("another's key", "{at: 1m, kill: {mode: torn, n: 1}}", "unknown key `mode`", "unknown_key"),
    fault("unknown region", "{at: 1m, partition: {groups: [mars]}}", "there is no region or role `mars`"),
)

TRACES = (
    trace("no text", b"\xff\xfe\0", "bad_trace", "is no text"),
    trace("empty", b"", "bad_trace", "holds no event"),
    trace("too few columns", b"1\t2\t3\n", "bad_trace", "line 1"),
    trace("times that are none", b"1\t1\tn\t1\th\t1\tx\ty\te\n", "bad_trace", "not a number of seconds"),
    providers("trace that is not there", "{n: 1, churn: {model: trace, trace: none.tab}}", "no_trace", "none.tab"),
)

COMMANDS = (
    command("no verb", "", "usage", "<verb>"),
    command("name that is none", "run bassline", "file_missing", "no scenario `bassline`"),
    command("file that is none", "run {tmp}/none.yaml", "file_missing", "cannot be read"),
    command("seed that is no integer", "run baseline --seed one", "usage", "--seed"),
    command("seeds that are none", "run baseline --seeds many", "bad_scenario", "simulation.seeds"),
    command("change without a value", "run baseline --set topology.loss", "usage", "topology.loss"),
    command("change of nothing", "validate baseline --set topology.los=1%", "unknown_key", "topology.los"),
    command("sweep over nothing", "sweep baseline --out {tmp}/s", "usage", "--grid"),
    command("plot of no run", "plot {tmp}/none", "no_run", "none"),
    command("replay of no run", "replay {tmp}/none", "no_run", "none"),
    command("diff of no run", "diff {tmp}/a {tmp}/b", "no_run", "/a"),
)

ROWS = (*FILES, *SECTIONS, *TRACES, *COMMANDS)
